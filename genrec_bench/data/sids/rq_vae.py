"""RQ-VAE: an autoencoder whose latent vectors are quantized level by level as it is trained.

Lee et al. 2022 (arXiv 2203.01941); for SIDs first by TIGER (Rajput et al. 2023, arXiv 2305.05065,
Section 3.1). The encoder gives a latent vector z. The residual of the first level is r_1 = z; each
level takes the nearest vector e_l of its codebook, and r_{l+1} = r_l - e_l. The decoder has the sum
of all e_l. The loss is

    mse(x, decoded) + sum_l mse(sg[r_l], e_l) + beta mse(r_l, sg[e_l])

where sg stops gradients, in r_l those to the codebooks of earlier levels too (Lee et al., Eq. 8).
The decoder's gradient reaches the encoder as if nothing had been quantized (straight through).

Against codes that nobody takes, the codebooks start from k-means on the latent vectors, as TIGER's
do, and codes that stay unused are moved to residuals of random items every few epochs.

With many items the autoencoder starts as a projection on principal components and back, from which
a few thousand steps lead further than several times as many do from random weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy.linalg import eigh
from torch import Tensor, nn

from genrec_bench.data.sids.rq_kmeans import MANY, Codes, Vectors, kmeans, residual_quantize
from genrec_bench.progress import Progress


@dataclass(frozen=True)
class RQVAESettings:
    """How an RQ-VAE is trained.

    Attributes:
        hidden: widths between the vectors and the latent vectors; the decoder has them mirrored.
        latent: width of the latent vectors, TIGER's.
        beta: weight of the term that holds the encoder to its codes, TIGER's.
        learning_rate: of AdamW (UGR, Appendix C).
        batch_size: items (UGR, Appendix C).
        least_batches: in an epoch; a small catalog is gone through several times, lest patience end
            before training has begun.
        epochs: at most. UGR trains for 10,000 on a GPU.
        patience: epochs without progress after which training stops.
        progress: the share by which the reconstruction error must fall to count as progress.
        reseed_every: epochs between looks for unused codes.
        first_items: at most so many items show k-means where the codebooks start, and where the
            principal components lie.
        many: from so many items on training starts from principal components, and goes on for
            ``steps_for_many``, without patience.
        steps_for_many: batches, rounded up to whole epochs.
        rate_for_many: the highest learning rate; it rises to it at first (``warmup_for_many``, a
            share of the steps), and then falls to nothing along a cosine.
    """

    hidden: tuple[int, ...] = (256, 128)
    latent: int = 32
    beta: float = 0.25
    learning_rate: float = 1e-3
    batch_size: int = 1024
    least_batches: int = 4
    epochs: int = 500
    patience: int = 10
    progress: float = 0.01
    reseed_every: int = 5
    first_items: int = 8192
    many: int = MANY
    steps_for_many: int = 3000
    rate_for_many: float = 3e-3
    warmup_for_many: float = 0.1


class RQVAE(nn.Module):
    """Encoder, decoder, and for each level a codebook [K_l, latent]."""

    def __init__(self, width: int, codes_per_level: Sequence[int], settings: RQVAESettings) -> None:
        """Draw the weights from torch's global generator; the codebooks are zeros."""
        super().__init__()
        widths = [width, *settings.hidden, settings.latent]
        self.encoder = _perceptron(widths)
        self.decoder = _perceptron(widths[::-1])
        self.codebooks = nn.ParameterList(
            nn.Parameter(torch.zeros(num_codes, settings.latent)) for num_codes in codes_per_level
        )

    def forward(self, vectors: Tensor, beta: float) -> tuple[Tensor, Tensor]:
        """Return the two parts of the loss of [n, width] vectors: reconstruction, and the rest."""
        latents = self.encoder(vectors)
        quantized, codebook_loss = quantize_latents(latents, list(self.codebooks), beta)
        return nn.functional.mse_loss(self.decoder(quantized), vectors), codebook_loss


def quantize_latents(
    latents: Tensor, codebooks: Sequence[Tensor], beta: float
) -> tuple[Tensor, Tensor]:
    """Return latent vectors quantized, straight through, and the loss of codebooks and encoder.

    ``latents`` are [n, latent], the codebook of each level is [K_l, latent].

    Returns:
        [n, latent] the sum of the chosen vectors, whose gradient is handed to `latents` unchanged;
        and sum_l mse(sg[r_l], e_l) + beta mse(r_l, sg[e_l]), a scalar.
    """
    residuals, loss = latents, latents.new_zeros(())
    for codebook in codebooks:
        chosen = codebook[nearest_code(residuals.detach(), codebook)]
        loss = loss + nn.functional.mse_loss(chosen, residuals.detach())
        loss = loss + beta * nn.functional.mse_loss(residuals, chosen.detach())
        residuals = residuals - chosen.detach()
    # What is left of the latents is what quantization takes away; without gradient, or none would
    # reach the encoder.
    return latents - residuals.detach(), loss


@torch.no_grad()
def nearest_code(residuals: Tensor, codebook: Tensor) -> Tensor:
    """[n] the row of the codebook nearest to each residual; the first of equally near ones."""
    return (codebook.square().sum(dim=1) - 2 * residuals @ codebook.T).argmin(dim=1)


def rq_vae(
    vectors: Vectors,
    codes_per_level: Sequence[int],
    seed: int,
    progress: Progress,
    settings: RQVAESettings = RQVAESettings(),
) -> tuple[Codes, tuple[Vectors, ...], list[Vectors]]:
    """Train an RQ-VAE on vectors and quantize them.

    For training the vectors' mean is subtracted and all are divided by one number, the root of the
    mean squared entry that is left: their geometry stays, and losses mean the same for all data.

    ``vectors`` are [n, E], finite, n > 0.

    Returns:
        [n, L] zero-based codes; the codebooks [K_l, latent], in the space of the latent vectors;
        and for each level what the decoder makes of the codes up to there, [n, E] in the space of
        the vectors. The decoder was trained on the last of these only.
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    spread = float(np.sqrt(np.mean(np.square(vectors - mean)))) or 1.0
    inputs = torch.from_numpy(((vectors - mean) / spread).astype(np.float32))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = RQVAE(vectors.shape[1], codes_per_level, settings)
    _train(model, inputs, seed, settings, progress)
    with torch.no_grad():
        residuals = model.encoder(inputs)
        quantized = torch.zeros_like(residuals)
        codes, decoded = [], []
        for codebook in model.codebooks:
            codes.append(nearest_code(residuals, codebook))
            chosen = codebook[codes[-1]]
            residuals, quantized = residuals - chosen, quantized + chosen
            output = model.decoder(quantized).numpy() * spread + mean
            decoded.append(output.astype(np.float32))
    codebooks = tuple(codebook.detach().numpy().copy() for codebook in model.codebooks)
    return torch.stack(codes, dim=1).numpy().astype(np.int32), codebooks, decoded


def _train(
    model: RQVAE, inputs: Tensor, seed: int, settings: RQVAESettings, progress: Progress
) -> None:
    """Train until the epochs or the patience are over; with many items, for a number of steps."""
    generator = torch.Generator().manual_seed(seed)
    batches = -(-len(inputs) // settings.batch_size)
    passes = -(-settings.least_batches // batches)
    many = len(inputs) >= settings.many
    epochs = -(-settings.steps_for_many // (batches * passes)) if many else settings.epochs
    if many:
        start_linear(model, inputs[_some(inputs, settings.first_items, generator)])
    _start_codebooks(model, inputs, seed, generator, settings.first_items)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, fused=many)
    schedule = None
    if many:
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            settings.rate_for_many,
            total_steps=epochs * passes * batches,
            pct_start=settings.warmup_for_many,
            cycle_momentum=False,
        )
    least, since = float("inf"), 0
    with progress.bar("SIDs: epochs", epochs) as bar:
        for epoch in range(epochs):
            error = 0.0
            orders = [torch.randperm(len(inputs), generator=generator) for _ in range(passes)]
            for rows in (part for order in orders for part in order.split(settings.batch_size)):
                reconstruction, codebook_loss = model(inputs[rows], settings.beta)
                optimizer.zero_grad()
                (reconstruction + codebook_loss).backward()
                optimizer.step()
                if schedule is not None:
                    schedule.step()
                error += float(reconstruction.detach()) * len(rows) / len(inputs) / passes
            bar.update(epoch + 1, error=error)
            if error < least * (1 - settings.progress):
                least, since = error, 0
            elif (since := since + 1) >= settings.patience and not many:
                break
            if (epoch + 1) % settings.reseed_every == 0:
                reseed_unused(model, inputs, generator)


@torch.no_grad()
def start_linear(model: RQVAE, inputs: Tensor) -> None:
    """Make the encoder project on the principal components of [n, width], and the decoder go back.

    A number passes a ReLU as two, x = relu(x) - relu(-x), so that there are at most half as many
    components as the narrowest hidden layer has units. Units that this does not need keep their
    weights, and are not read by the last layer until training finds a use for them.
    """
    encoder, decoder = (
        [m for m in net if isinstance(m, nn.Linear)] for net in (model.encoder, model.decoder)
    )
    width, latent = inputs.shape[1], encoder[-1].out_features
    kept = min(width, latent, *(layer.out_features // 2 for layer in encoder[:-1]))
    covariance = (inputs.T @ inputs).double().numpy()
    _, found = eigh(covariance, subset_by_index=[width - kept, width - 1])
    components = torch.from_numpy(found).float()
    _let_through(encoder, components.T, torch.eye(latent, kept))
    _let_through(decoder, torch.eye(kept, latent), components)


def _let_through(layers: Sequence[nn.Linear], first: Tensor, last: Tensor) -> None:
    """Make layers with ReLU between them the linear map x -> last first x."""
    kept = len(first)
    pairs = torch.cat([torch.eye(kept), -torch.eye(kept)])
    for layer in layers:
        read, written = pairs.T, pairs
        if layer is layers[0]:
            read = first
        if layer is layers[-1]:
            written = last
        layer.weight[: len(written)] = 0
        layer.weight[: len(written), : read.shape[1]] = written @ read
        layer.bias[: len(written)] = 0


def _some(inputs: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Draw the rows of at most so many items."""
    return torch.randperm(len(inputs), generator=generator)[:most]


@torch.no_grad()
def _start_codebooks(
    model: RQVAE, inputs: Tensor, seed: int, generator: torch.Generator, most: int
) -> None:
    """Set the codebooks by residual k-means on the latent vectors of some items."""
    latents = model.encoder(inputs[_some(inputs, most, generator)]).numpy()
    sizes = [len(codebook) for codebook in model.codebooks]
    _, found = residual_quantize(latents, sizes, seed, kmeans, Progress(quiet=True))
    for codebook, centroids in zip(model.codebooks, found, strict=True):
        # Fewer latents than codes: they stand several times, and the first of equal codes is taken.
        codebook.copy_(torch.from_numpy(centroids[np.arange(len(codebook)) % len(centroids)]))


@torch.no_grad()
def reseed_unused(model: RQVAE, inputs: Tensor, generator: torch.Generator) -> int:
    """Move each code that none of all items [n, E] takes to a random residual; return how many."""
    residuals = model.encoder(inputs)
    moved = 0
    for codebook in model.codebooks:
        codes = nearest_code(residuals, codebook)
        unused = torch.bincount(codes, minlength=len(codebook)) == 0
        items = torch.randint(len(inputs), (int(unused.sum()),), generator=generator)
        codebook[unused] = residuals[items]
        moved += len(items)
        residuals = residuals - codebook[nearest_code(residuals, codebook)]
    return moved


def _perceptron(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
