"""SRPO's loss at the temperature of its draws, replayed in loops over plain logits."""

import math
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from watched_steps import rollout_stepper

from genrec_bench.algorithms.srpo import SRPO, SRPOHyperparameters
from genrec_bench.contract.tiny_world import TinyWorld, play, roll_out, tiny_world
from genrec_bench.decoding.sampling import sample
from genrec_bench.errors import UserError
from genrec_bench.policy.attention import NAME as TREE_ATTENTION
from genrec_bench.policy.policy import LogProbSpace, Policy, WorkCount
from genrec_bench.policy.scoring import Scores, score
from genrec_bench.training import steps

SPACES = get_args(LogProbSpace)
Table = list[list[list[Tensor]]]


def tempered(**values: Any) -> SRPO:
    return SRPO(SRPOHyperparameters(tempered=True, **values))


def competitors(policy: Policy, space: LogProbSpace, sid: list[int], level: int) -> list[int]:
    """Tokens over which the code at a level of a SID is normalised."""
    trie = policy.trie
    if space == "full":
        return list(range(policy.vocabulary_size))
    codes: set[int] = set(range(trie.codes_per_level[level]))
    if space == "trie":
        states = trie.prefixes(trie.leaf(torch.arange(trie.num_leaves)))
        sids = trie.code[states].tolist()
        codes = {other[level] for other in sids if other[:level] == sid[:level]}
    return [int(policy.code_tokens[level, code]) for code in sorted(codes)]


def plain(world: TinyWorld, policy: Policy, leaves: Tensor, temperature: float) -> Table:
    """Log-probability [B][G][L] of every code: one sequence a candidate, one softmax a code."""
    trie, table = policy.trie, []
    policy.backbone.set_attn_implementation("eager")
    for tokens, mask, group in zip(world.prompts.tokens, world.prompts.mask, leaves, strict=True):
        prompt, rows = tokens[mask].tolist(), []
        for leaf in group:
            sid = trie.code[trie.prefixes(leaf)].tolist()
            codes = [int(policy.code_tokens[level, code]) for level, code in enumerate(sid)]
            sequence = torch.tensor([prompt + codes])
            logits = policy.backbone(input_ids=sequence, use_cache=False).logits[0]
            row = []
            for level, code in enumerate(codes):
                scaled = logits[len(prompt) + level - 1] / temperature
                against = competitors(policy, policy.logprob_space, sid, level)
                row.append(scaled[code] - scaled[against].logsumexp(dim=0))
            rows.append(row)
        table.append(rows)
    policy.backbone.set_attn_implementation(TREE_ATTENTION)
    return table


def stacked(table: Table) -> Tensor:
    return torch.stack([torch.stack([torch.stack(row) for row in rows]) for rows in table])


def gradients(policy: Policy, losses: Tensor) -> Tensor:
    found = torch.autograd.grad(losses.sum(), list(policy.parameters()), allow_unused=True)
    return torch.cat([gradient.flatten() for gradient in found if gradient is not None])


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_logits_are_divided_wherever_they_are_read(space: LogProbSpace, temperature: float) -> None:
    world = tiny_world(logprob_space=space)
    tree = sample(world.policy, world.prompts, 6, temperature=temperature, kept_at=temperature)
    with torch.no_grad():
        expected = stacked(plain(world, world.policy, tree.leaves, temperature))
        untempered = stacked(plain(world, world.policy, tree.leaves, 1.0))
        scored = score(world.policy, world.prompts, tree, temperature=temperature)
    assert torch.allclose(tree.on_paths(tree.log_probs), expected, atol=1e-4)
    assert torch.allclose(scored.log_probs, expected, atol=1e-4)
    # It is not the same as dividing log-probabilities, nor as no temperature.
    assert (expected - untempered).abs().max() > 0.1


@pytest.mark.parametrize("space", SPACES)
def test_what_is_kept_changes_neither_draws_nor_work(space: LogProbSpace) -> None:
    world = tiny_world(logprob_space=space)
    found, work = [], []
    for kept_at in (1.0, 0.5):
        world.policy.meter = count = WorkCount()
        drawn = sample(world.policy, world.prompts, 8, temperature=0.5, kept_at=kept_at, key=7)
        score(world.policy, world.prompts, drawn, temperature=kept_at)
        found.append(drawn)
        work.append((count.tokens, count.flops))
    assert torch.equal(found[0].leaves, found[1].leaves)
    assert not torch.allclose(found[0].log_probs, found[1].log_probs)
    assert work[0] == work[1]


def moved_world(chosen: SRPO, space: LogProbSpace) -> tuple[TinyWorld, Any]:
    """A rollout, and the policy a little further than when it rolled out."""
    world = tiny_world(chosen, logprob_space=space)
    tree = roll_out(chosen, world)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in world.policy.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.02)
    return world, tree


@pytest.mark.parametrize("space", SPACES)
def test_the_whole_loss_replayed(space: LogProbSpace) -> None:
    """Behavior policy, policy and reference at 0.5: Eq. 22 in loops, with its gradient."""
    chosen = tempered(beta=0.3, k=2)
    old_world = tiny_world(chosen, logprob_space=space)
    world, tree = moved_world(chosen, space)
    assert world.reference is not None
    world.reference.logprob_space = space
    played = play(chosen, world, tree)
    with torch.no_grad():
        old = plain(old_world, old_world.policy, tree.leaves, 0.5)
        reference = plain(world, world.reference, tree.leaves, 0.5)
    now = plain(world, world.policy, tree.leaves, 0.5)

    losses, clipped = [], 0
    for b in range(len(now)):
        terms = []
        for i in range(6):
            advantage = float(played.batch.advantages[b, i])
            for t in range(3):
                ratio = (now[b][i][t] - old[b][i][t]).exp()
                bounded = ratio.clamp(0.8, 1.2)
                clipped += int(bool(bounded != ratio))
                gap = reference[b][i][t] - now[b][i][t]
                surrogate = torch.minimum(ratio * advantage, bounded * advantage)
                terms.append(0.3 * (gap.exp() - gap - 1) - surrogate)
        losses.append(torch.stack(terms).sum() / 18)
    assert 0 < clipped < 18 * len(now)
    expected = torch.stack(losses)
    assert torch.allclose(played.losses, expected, rtol=1e-3, atol=1e-3)
    ours, theirs = (gradients(world.policy, of) for of in (played.losses, expected))
    assert torch.cosine_similarity(ours, theirs, dim=0) > 0.99999
    assert torch.allclose(ours, theirs, rtol=1e-2, atol=1e-3 * float(theirs.abs().max()))


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(("temperature", "top_p"), [(0.5, 1.0), (2.0, 0.9)])
def test_on_policy_the_ratio_is_one(space: LogProbSpace, temperature: float, top_p: float) -> None:
    """Bounds as near as 0.001 are idle, and the gradient is A / (n L) for every code."""
    draws: dict[str, Any] = {"temperature": temperature, "top_p": top_p}
    chosen = tempered(beta=0.0, k=2, clip_low=0.001, clip_high=0.001, **draws)
    played = play(chosen, tiny_world(chosen, logprob_space=space))
    (found,) = torch.autograd.grad(played.losses.sum(), [played.scores.log_probs])
    expected = -played.batch.advantages.unsqueeze(-1) / 18
    assert expected.any()
    assert torch.allclose(found, expected.expand_as(found), atol=1e-5)


def test_a_tree_kept_at_another_temperature_is_no_rollout_on_policy() -> None:
    """What the option mends: with a tree at 1 and a loss at 0.5 the ratio is not 1."""
    chosen = tempered(beta=0.0, k=2, temperature=0.5)
    world = tiny_world(chosen)
    drawn = sample(world.policy, world.prompts, 6, temperature=0.5, key=3)
    scores = score(world.policy, world.prompts, drawn, temperature=chosen.loss_temperature)
    gap = scores.log_probs - drawn.on_paths(drawn.log_probs)
    assert gap.abs().max() > math.log(1.2)


def test_steps_read_policy_and_reference_at_the_temperature(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float] = []

    def watched(*arguments: Any, **options: Any) -> Scores:
        asked.append(options["temperature"])
        return score(*arguments, **options)

    monkeypatch.setattr(steps, "score", watched)
    for chosen, at in ((tempered(temperature=0.7), 0.7), (SRPO(SRPOHyperparameters()), 1.0)):
        asked.clear()
        rollout_stepper(chosen)[0].step(0, 0.0)
        assert set(asked) == {at}
    # At the first step policy and reference are equal, if both are read alike.
    first = rollout_stepper(tempered(minibatches=1))[0].step(0, 0.0)
    assert first["divergence"] == pytest.approx(0.0, abs=1e-6)


def test_a_beam_has_no_temperature() -> None:
    with pytest.raises(UserError, match=r"^tempered=true: .*rollout_by=sample$"):
        tempered(rollout_by="beam")
