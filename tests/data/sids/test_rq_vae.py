"""RQ-VAE: loss and gradients by hand, codes that nobody takes, training, and its seed."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from genrec_bench.data.sids.methods import quantize
from genrec_bench.data.sids.rq_kmeans import MANY, Vectors
from genrec_bench.data.sids.rq_vae import (
    RQVAE,
    RQVAESettings,
    nearest_code,
    quantize_latents,
    reseed_unused,
    rq_vae,
    start_linear,
)
from genrec_bench.progress import Progress

QUIET = Progress(quiet=True)
SMALL = RQVAESettings(
    hidden=(16,), latent=4, batch_size=64, epochs=60, patience=60, learning_rate=0.01
)


def books(*levels: list[float]) -> list[torch.Tensor]:
    return [torch.tensor(level)[:, None].requires_grad_() for level in levels]


def test_loss_and_gradients_by_hand() -> None:
    # 1 takes 0.8, and what is left, 0.2, takes 0.1.
    latents = torch.tensor([[1.0]], requires_grad=True)
    first, second = books([-3.0, 0.8], [0.1, 1.0])
    quantized, loss = quantize_latents(latents, [first, second], beta=0.25)
    assert quantized.item() == pytest.approx(0.9)
    assert loss.item() == pytest.approx((0.2**2 + 0.1**2) * 1.25)
    (3 * quantized.sum() + loss).backward()
    # Straight through brings 3; the commitment 2 beta (r_1 - e_1) + 2 beta (r_2 - e_2).
    assert latents.grad is not None and first.grad is not None and second.grad is not None
    assert latents.grad.item() == pytest.approx(3 + 0.5 * 0.2 + 0.5 * 0.1)
    # 2 (e_l - r_l) for the code that was taken; nothing from the decoder or from later levels.
    assert first.grad[:, 0].tolist() == pytest.approx([0.0, -0.4])
    assert second.grad[:, 0].tolist() == pytest.approx([-0.2, 0.0])


def test_losses_are_means_over_items_and_width() -> None:
    latents = torch.tensor([[1.0, 1.0], [3.0, 1.0]])
    codebook = torch.tensor([[1.0, 0.0], [3.0, 3.0]])
    _, loss = quantize_latents(latents, [codebook], beta=1.0)
    # Item 0 takes code 0 at a squared distance of 1, item 1 code 1 at 4; over 4 entries, twice.
    assert loss.item() == pytest.approx(2 * (1 + 4) / 4)


def test_the_first_of_equally_near_codes_is_taken() -> None:
    found = nearest_code(torch.tensor([[0.0], [5.0]]), torch.tensor([[-1.0], [1.0], [6.0], [6.0]]))
    assert found.tolist() == [0, 2]


def test_unused_codes_move_to_residuals_of_items() -> None:
    model = RQVAE(1, (3, 2), RQVAESettings(hidden=(), latent=1))
    model.encoder = nn.Sequential(nn.Identity())
    with torch.no_grad():
        model.codebooks[0].copy_(torch.tensor([[0.0], [10.0], [99.0]]))
        model.codebooks[1].copy_(torch.tensor([[0.0], [-50.0]]))
    inputs = torch.tensor([[1.0], [2.0], [10.0], [11.0]])
    assert reseed_unused(model, inputs, torch.Generator().manual_seed(0)) == 2
    first, second = model.codebooks[0][:, 0].tolist(), model.codebooks[1][:, 0].tolist()
    assert first[:2] == [0.0, 10.0] and first[2] in (1.0, 2.0, 10.0, 11.0)
    # The second level sees what the first one leaves, the moved code included.
    left = [min((x - code for code in first), key=abs) for x in (1.0, 2.0, 10.0, 11.0)]
    assert second[0] == 0.0 and second[1] in left


def test_codes_in_use_stay_where_they_are() -> None:
    model = RQVAE(1, (2,), RQVAESettings(hidden=(), latent=1))
    model.encoder = nn.Sequential(nn.Identity())
    with torch.no_grad():
        model.codebooks[0].copy_(torch.tensor([[0.0], [1.0]]))
    assert reseed_unused(model, torch.tensor([[0.1], [0.9]]), torch.Generator()) == 0
    assert model.codebooks[0][:, 0].tolist() == [0.0, 1.0]


def clusters(items: int = 200) -> tuple[Vectors, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Four clusters far from each other, and far from the origin."""
    rng = np.random.default_rng(0)
    centres = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]]) * 5 + 100
    cluster = rng.integers(4, size=items)
    return (centres[cluster] + 0.05 * rng.normal(size=(items, 3))).astype(np.float32), cluster


def test_clusters_get_codes_of_their_own_and_are_reconstructed() -> None:
    vectors, cluster = clusters()
    codes, codebooks, decoded = rq_vae(vectors, (4, 4), 0, QUIET, SMALL)
    assert codes.shape == (200, 2) and codes.dtype == np.int32
    assert [book.shape for book in codebooks] == [(4, 4), (4, 4)]
    first_of = {c: set(codes[cluster == c, 0].tolist()) for c in range(4)}
    assert all(len(found) == 1 for found in first_of.values())
    assert set.union(*first_of.values()) == {0, 1, 2, 3}
    variance = np.square(vectors - vectors.mean(axis=0)).sum()
    assert np.square(vectors - decoded[-1]).sum() < 0.05 * variance, "in the vectors' own space"


def test_units_and_origin_of_the_vectors_do_not_matter() -> None:
    vectors, _ = clusters(60)
    codes, _, decoded = rq_vae(vectors, (4, 2), 0, QUIET, SMALL)
    # Powers of two round nothing.
    moved, _, moved_decoded = rq_vae(vectors * 8, (4, 2), 0, QUIET, SMALL)
    assert codes.tolist() == moved.tolist()
    np.testing.assert_allclose(moved_decoded[-1], decoded[-1] * 8, rtol=1e-5)


def test_the_seed_decides_and_the_global_generator_has_no_part() -> None:
    vectors = np.random.default_rng(0).normal(size=(100, 5)).astype(np.float32)
    settings = RQVAESettings(hidden=(8,), latent=4, batch_size=32, epochs=6)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    once = rq_vae(vectors, (8, 8), 0, QUIET, settings)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    again = rq_vae(vectors, (8, 8), 0, QUIET, settings)
    other = rq_vae(vectors, (8, 8), 1, QUIET, settings)
    np.testing.assert_array_equal(once[0], again[0])
    np.testing.assert_array_equal(once[2][-1], again[2][-1])
    assert not np.array_equal(once[0], other[0])


def test_training_stops_where_nothing_is_gained(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    forward = RQVAE.forward

    def counted(self: RQVAE, vectors: torch.Tensor, beta: float) -> tuple[torch.Tensor, ...]:
        nonlocal steps
        steps += 1
        reconstruction, loss = forward(self, vectors, beta)
        return reconstruction * 0 + 1.0, loss

    monkeypatch.setattr(RQVAE, "forward", counted)
    settings = RQVAESettings(hidden=(), latent=2, epochs=50, patience=3, least_batches=1)
    rq_vae(clusters(20)[0], (2,), 0, QUIET, settings)
    assert steps == 4, "an epoch that is the best so far, and three without progress"


def test_a_small_catalog_is_learned_too() -> None:
    # One batch holds all of it: as many epochs as elsewhere would be far fewer steps.
    random = np.random.default_rng(5)
    centers = random.normal(size=(8, 16))[np.arange(60) % 8]
    vectors = (centers + 0.1 * random.normal(size=(60, 16))).astype(np.float32)
    found = quantize(vectors, "rq-vae", (8, 8), 0, Progress(quiet=True))
    assert found.errors[-1] < 0.2


@pytest.mark.parametrize(
    ("hidden", "latent", "components"),
    [
        ((16, 9), 4, 4),
        ((16, 9), 12, 4),  # nine units let four numbers through
        ((40,), 12, 6),  # no more than the vectors are wide
        ((), 3, 3),
    ],
)
def test_many_start_as_principal_components(
    hidden: tuple[int, ...], latent: int, components: int
) -> None:
    random = np.random.default_rng(0)
    vectors = (random.normal(size=(300, 6)) @ random.normal(size=(6, 6))).astype(np.float32)
    vectors -= vectors.mean(axis=0)
    inputs = torch.from_numpy(vectors)
    model = RQVAE(6, (2,), RQVAESettings(hidden=hidden, latent=latent))
    start_linear(model, inputs)
    with torch.no_grad():
        decoded = model.decoder(model.encoder(inputs)).numpy()
    pca = PCA(components).fit(vectors)
    expected = pca.inverse_transform(pca.transform(vectors))
    np.testing.assert_allclose(decoded, expected, atol=1e-4)


def test_units_that_the_start_does_not_need_can_learn() -> None:
    inputs = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    model = RQVAE(3, (2,), RQVAESettings(hidden=(16, 16), latent=2))
    start_linear(model, inputs)
    (model.decoder(model.encoder(inputs)) - inputs).square().mean().backward()
    for network in (model.encoder, model.decoder):
        *_, last = network
        assert isinstance(last, nn.Linear) and last.weight.grad is not None
        assert (last.weight[:, 4:] == 0).all() and (last.weight.grad[:, 4:] != 0).any()


def test_many_are_trained_for_a_number_of_steps_and_less_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(3)
    centers = random.normal(size=(12, 16))[np.arange(400) % 12]
    vectors = (centers + 0.3 * random.normal(size=(400, 16))).astype(np.float32)
    # Four batches are an epoch, so that both take 120 steps.
    few = RQVAESettings(hidden=(64, 32), latent=8, batch_size=100, epochs=30, patience=30)
    many = RQVAESettings(
        hidden=(64, 32), latent=8, batch_size=100, many=400, steps_for_many=117, patience=1
    )
    steps = 0
    forward = RQVAE.forward

    def counted(self: RQVAE, vectors: torch.Tensor, beta: float) -> tuple[torch.Tensor, ...]:
        nonlocal steps
        steps += 1
        return forward(self, vectors, beta)

    monkeypatch.setattr(RQVAE, "forward", counted)
    left = []
    for settings in (few, many):
        steps = 0
        _, _, decoded = rq_vae(vectors, (8, 8), 0, QUIET, settings)
        assert steps == 120
        left.append(np.square(vectors - decoded[-1]).sum())
    assert left[1] < 0.9 * left[0]


def test_below_many_nothing_depends_on_what_many_get() -> None:
    vectors = clusters(50)[0]
    other = RQVAESettings(steps_for_many=1, rate_for_many=1.0, many=51, epochs=2)
    usual = RQVAESettings(epochs=2)
    assert usual.many == MANY, "no card has as many, see test_rq_kmeans.py"
    once = rq_vae(vectors, (4, 4), 0, QUIET, usual)
    again = rq_vae(vectors, (4, 4), 0, QUIET, other)
    np.testing.assert_array_equal(once[0], again[0])
    np.testing.assert_array_equal(once[2][-1], again[2][-1])
