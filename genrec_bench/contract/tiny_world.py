"""A world small enough to check anything in: a few SIDs, a random policy, some prompts.

For the contract's checks and for tests. Everything is drawn from seeds; the global random
generators are left as they were. ``play`` does in this world what the harness does in one step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor, nn
from transformers import Qwen3Config, Qwen3ForCausalLM

from genrec_bench.data.columns import Texts
from genrec_bench.data.dataset import Catalog, Examples
from genrec_bench.policy.policy import LogProbSpace, Policy
from genrec_bench.policy.prompts import CompactPrompt, Prompts
from genrec_bench.policy.scoring import Scores, score
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.policy.trie import Trie
from genrec_bench.training.base_algorithm import Algorithm
from genrec_bench.training.groups import Batch, Seen
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.training_data import TrainingData
from genrec_bench.training.views import Views
from genrec_bench.training.workers import Workers

HIDDEN_SIZE = 16
EMBEDDING_SIZE = 5
GROUP_SIZE = 6


@dataclass(frozen=True, eq=False)
class TinyWorld:
    """What an algorithm meets.

    Attributes:
        policy: random weights, in eval mode.
        reference: another policy over the same tokens, if the algorithm uses one.
        prompts: B of them, of unequal length, padded on the right.
        targets: [B] leaf states.
        embeddings: [num_sids, E] if the algorithm uses them.
    """

    policy: Policy
    reference: Policy | None
    prompts: Prompts
    targets: Tensor
    embeddings: Tensor | None = None


def tiny_catalog(
    num_sids: int = 20, codes_per_level: tuple[int, ...] = (4, 4, 4), seed: int = 0
) -> Catalog:
    """Draw a catalog with distinct SIDs; its last item shares the SID of its first."""
    generator = np.random.default_rng(seed)
    cells = generator.choice(int(np.prod(codes_per_level)), size=num_sids, replace=False)
    sids = np.stack(np.unravel_index(cells, codes_per_level), axis=1).astype(np.int32)
    sids = np.concatenate([sids, sids[:1]])
    numbers = pa.array(np.arange(len(sids))).cast(pa.string())
    return Catalog(
        sids=sids,
        codes_per_level=codes_per_level,
        item_names=Texts(pc.binary_join_element_wise("item", numbers, " ").cast(pa.large_string())),
        titles=Texts.empty(len(sids)),
        popularity=np.arange(len(sids), dtype=np.int64),
        rank_shared="popularity",
    )


def tiny_trie(catalog: Catalog) -> Trie:
    """Return the trie of a catalog's SIDs, as a policy makes it."""
    return Trie.build(catalog.unique_sids, catalog.codes_per_level)


def tiny_examples(catalog: Catalog, num_examples: int = 5, seed: int = 0) -> Examples:
    """Draw examples, each of another user, whose histories hold one to four items."""
    generator = np.random.default_rng(seed)
    histories = [
        generator.integers(catalog.num_items, size=1 + index % 4) for index in range(num_examples)
    ]
    targets = generator.integers(catalog.num_items, size=num_examples)
    return Examples.from_lists(
        range(num_examples), [history.tolist() for history in histories], targets.tolist()
    )


def tiny_policy(
    catalog: Catalog,
    *,
    seed: int = 0,
    logprob_space: LogProbSpace = "full",
    extra_tokens: Iterable[str] = (),
    heads: Mapping[str, nn.Module] | None = None,
    embeddings: Tensor | None = None,
) -> Policy:
    """Make a Qwen3 policy of two layers with random weights, in eval mode; see ``Policy``."""
    prompt_format = CompactPrompt(catalog)
    extra_tokens = tuple(extra_tokens)
    config = Qwen3Config(
        vocab_size=prompt_format.vocabulary_size + len(extra_tokens),
        hidden_size=HIDDEN_SIZE,
        intermediate_size=2 * HIDDEN_SIZE,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=HIDDEN_SIZE // 2,
        max_position_embeddings=64,
        # Far from uniform, so that candidates differ by more than rounding.
        initializer_range=0.5,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = Qwen3ForCausalLM(config)
    policy = Policy(
        backbone,
        prompt_format,
        catalog,
        logprob_space=logprob_space,
        extra_tokens=extra_tokens,
        heads=heads,
        embeddings=embeddings,
    )
    return policy.eval()


def tiny_world(
    algorithm: Algorithm | None = None, *, logprob_space: LogProbSpace = "full", seed: int = 0
) -> TinyWorld:
    """Make a world, with the tokens and heads that an algorithm, if any, asks for."""
    catalog = tiny_catalog(seed=seed)
    examples = tiny_examples(catalog, seed=seed)
    algorithm = algorithm or Algorithm(Algorithm.hyperparameters_class())
    embeddings = None
    if algorithm.uses_embeddings:
        drawn = np.random.default_rng(seed).normal(size=(len(catalog.unique_sids), EMBEDDING_SIZE))
        embeddings = torch.from_numpy(drawn.astype(np.float32))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        size = EMBEDDING_SIZE if algorithm.uses_embeddings else 0
        heads = algorithm.heads(HIDDEN_SIZE, size, tiny_trie(catalog))
    make = partial(tiny_policy, catalog, logprob_space=logprob_space, extra_tokens=algorithm.tokens)
    policy = make(seed=seed, heads=heads, embeddings=embeddings)
    reference = make(seed=seed + 1) if algorithm.uses_reference else None
    prompts = policy.prompt_format.encode(examples, np.arange(len(examples)))
    targets = policy.item_leaves[torch.from_numpy(examples.targets.astype(np.int64))]
    return TinyWorld(policy, reference, prompts, targets, embeddings)


@dataclass(frozen=True, eq=False)
class Play:
    """One rollout, and the loss on it; see ``Batch`` and ``Algorithm.loss``."""

    batch: Batch
    scores: Scores
    losses: Tensor
    figures: dict[str, Tensor]


def play(
    algorithm: Algorithm,
    world: TinyWorld,
    tree: CandidateTree | None = None,
    targets: Tensor | None = None,
) -> Play:
    """Roll out, reward, give credit and compute the loss, as the harness does.

    The algorithm stays as it is: a fresh one with its hyperparameters does the work. A tree and
    targets [B], if given, take the place of a rollout and of the world's targets.
    """
    algorithm = fresh(algorithm)
    targets = world.targets if targets is None else targets
    tree = roll_out(algorithm, world) if tree is None else tree
    seen = seen_of(algorithm, world, tree, targets)
    with torch.no_grad():
        rewards = algorithm.reward(seen)
        advantages = algorithm.advantage(seen, rewards)
        said = seen.reference
    scores = scores_for_loss(algorithm, world, world.prompts, tree, targets)
    batch = Batch(
        world.prompts,
        tree,
        targets,
        rewards,
        advantages,
        None if said is None else said.log_probs,
        world.embeddings,
        None if scores.target_log_probs is None else scores.target_log_probs.detach(),
        None if said is None else said.target_log_probs,
    )
    return Play(batch, scores, *algorithm.loss(batch, scores))


def seen_of(algorithm: Algorithm, world: TinyWorld, tree: CandidateTree, targets: Tensor) -> Seen:
    """Return what the harness shows of some groups for the world's prompts."""
    ledger = Ledger(world.policy.device)
    views = Views(world.policy, algorithm, ledger, Workers(), world.reference, world.embeddings)
    return views.seen(world.prompts, tree, targets)


def scores_for_loss(
    algorithm: Algorithm,
    world: TinyWorld,
    prompts: Prompts,
    tree: CandidateTree,
    targets: Tensor,
) -> Scores:
    """Score a tree as the harness does it for the loss: with what the algorithm asks for."""
    leaves, at = algorithm.scores_leaves, algorithm.loss_temperature
    wanted = targets if algorithm.scores_targets else None
    return score(world.policy, prompts, tree, leaves=leaves, temperature=at, targets=wanted)


@torch.no_grad()
def roll_out(algorithm: Algorithm, world: TinyWorld, group_size: int = GROUP_SIZE) -> CandidateTree:
    """Let a fresh algorithm of this kind find candidates; one that samples does so from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return fresh(algorithm).rollout(world.policy, world.prompts, group_size)


def fresh(algorithm: Algorithm) -> Algorithm:
    """Return one at the beginning of a run, with the same hyperparameters."""
    one, catalog = type(algorithm)(algorithm.hyperparameters), tiny_catalog()
    trie, base = tiny_trie(catalog), Algorithm
    if type(one).heads is not base.heads:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            one.heads(HIDDEN_SIZE, EMBEDDING_SIZE if one.uses_embeddings else 0, trie)
    if type(one).begin is not base.begin:
        item_leaves = trie.leaf(torch.from_numpy(catalog.sid_of_item.astype(np.int64)))
        one.begin(TrainingData(tiny_examples(catalog), trie, item_leaves))
    return one


def groups(algorithm: Algorithm, world: TinyWorld) -> dict[str, tuple[CandidateTree, Tensor]]:
    """Return groups that tend to break formulas by name: each a tree, and the targets [B]."""
    tree = roll_out(algorithm, world)
    trie = tree.trie
    by_rank = tree.leaves.gather(1, tree.ranks().argsort(dim=1))
    last = by_rank.gather(1, tree.valid.sum(dim=1, keepdim=True) - 1).squeeze(1)
    every = trie.first_of_level[-1] + torch.arange(trie.num_leaves)
    missed = every[(every != by_rank.unsqueeze(-1)).all(dim=1).long().argmax(dim=1)]
    best = tree.ranks().argmin(dim=1, keepdim=True)
    log_probs = tree.on_paths(tree.log_probs).take_along_dim(best.unsqueeze(-1), dim=1)
    dead = torch.full_like(by_rank[:, 1:], trie.dead)
    alone = torch.cat([by_rank[:, :1], dead], dim=1)
    single = CandidateTree.build(trie, alone, log_probs.expand(*alone.shape, -1))
    larger = roll_out(algorithm, world, trie.num_leaves + 3)
    return {
        "a rollout": (tree, world.targets),
        "a hit at rank 0": (tree, by_rank[:, 0]),
        "a hit at the last rank": (tree, last),
        "no hit": (tree, missed),
        "one real candidate, a hit": (single, by_rank[:, 0]),
        "one real candidate, no hit": (single, missed),
        "more places than SIDs": (larger, world.targets),
    }
