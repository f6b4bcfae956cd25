"""Candidates drawn from the policy inside the trie: with replacement, or each SID once.

Sampling differs from a beam in one thing: probabilities are renormalised over the codes that may
follow a prefix, whatever ``logprob_space`` says; the log-probabilities that a tree keeps are in
that space, and at temperature 1 unless another is asked for. Several draws may share a prefix,
which goes through the policy once for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from genrec_bench.decoding.beam import Expansion, Level, TreeDecoder, chunks, grow_beam, in_chunks
from genrec_bench.decoding.randomness import draw_key, prompt_keys, uniform
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.policy.trie import Trie


@torch.no_grad()
def sample(
    policy: Policy,
    prompts: Prompts,
    count: int,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    kept_at: float = 1.0,
    key: int | None = None,
) -> CandidateTree:
    """Draw candidates one code after another, each draw apart from the others.

    A prompt's draws depend on its tokens and on the key alone: neither on the order of prompts nor
    on how they are cut into forward passes, but for what rounding does at the edge of a code's
    share. Equal prompts get equal candidates.

    Args:
        count: G, draws for each prompt.
        temperature: see ``sampling_log_probs``; so are the next two.
        top_p: share of the probability mass to draw from.
        top_k: how many codes to draw from; 0 for all.
        kept_at: temperature of the log-probabilities that the tree keeps, normalised over
            ``logprob_space`` whatever is drawn from; 1 for those of the policy itself. The tree's
            ranks follow them.
        key: of the random numbers; by default one is drawn from torch's generator on the CPU.

    Returns:
        Trees whose G candidates are all real and stand in the order of drawing. A SID that is drawn
        more than once is there as often, on one leaf node.

    Raises:
        ValueError: if a number is out of its range.
    """
    key = draw_key() if key is None else key
    return in_chunks(_sample, policy, prompts, count, temperature, top_k, top_p, kept_at, key)


@torch.no_grad()
def beam_and_samples(
    policy: Policy,
    prompts: Prompts,
    width: int,
    count: int,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    key: int | None = None,
) -> tuple[CandidateTree, CandidateTree]:
    """Return what ``beam_search`` finds and ``sample`` draws, for less than the price of both.

    Most prefixes that are drawn are on the beam. They, and the prompts, are read once.

    Args:
        width: of the beam.
        count: draws for each prompt.
        temperature: see ``sample``; so are the next two.
        top_p: share of the probability mass to draw from.
        key: of the random numbers.

    Raises:
        ValueError: if a number is out of its range.
    """
    key = draw_key() if key is None else key
    trie = policy.trie
    capacity = width * (trie.num_levels - 1) + _capacity(trie, count)
    # A pass reads prompts, or nodes of one level; passes over what was drawn are narrow.
    sizes = prompts.lengths + max(width, count)
    order = list(chunks(sizes, policy.tokens_per_forward))
    beams, samples = [], []
    for rows in order:
        part = prompts.select(rows)
        decoder = TreeDecoder(policy, part, capacity)
        beam, levels = grow_beam(decoder, trie, width)
        beams.append(beam)
        keys = prompt_keys(part, key)
        samples.append(_draw(decoder, trie, keys, count, temperature, 0, top_p, known=levels))
    place = torch.cat(order)
    return CandidateTree.join(beams, place), CandidateTree.join(samples, place)


@torch.no_grad()
def stochastic_beam(
    policy: Policy,
    prompts: Prompts,
    width: int,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    key: int | None = None,
) -> CandidateTree:
    """Draw distinct candidates: as if drawn one by one, and those that were there already left out.

    A beam search on perturbed log-probabilities does so in one pass (Kool et al. 2019, "Stochastic
    Beams and Where to Find Them", algorithm 1). With ``top_k`` it is the Top-K decoding of V-STAR's
    §5.4. Random numbers are keyed as in ``sample``.

    Args:
        width: G, candidates of each prompt.
        temperature: see ``sampling_log_probs``.
        top_k: how many codes may follow each prefix; 0 for all.
        key: see ``sample``.

    Returns:
        Trees whose candidates are sorted by descending probability under the policy. Where fewer
        than G SIDs can be drawn, the last places are not real.

    Raises:
        ValueError: if a number is out of its range.
    """
    key = draw_key() if key is None else key
    return in_chunks(_stochastic_beam, policy, prompts, width, temperature, top_k, key)


def sampling_log_probs(
    log_probs: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> Tensor:
    """Return the distribution that is drawn from, given the policy's log-probabilities.

    First the temperature, then only the most probable children are kept: at most ``top_k``, and of
    these the fewest whose share reaches ``top_p`` (the nucleus; Holtzman et al. 2020).

    Args:
        log_probs: [..., F] of the children of some nodes, up to a constant; -inf for none.
        temperature: divides the log-probabilities; above 0.
        top_k: 0 keeps all.
        top_p: above 0; 1 keeps all.

    Returns:
        [..., F] log-probabilities as double that sum to 1 over the children kept, -inf elsewhere;
        -inf throughout where there is no child.

    Raises:
        ValueError: if a number is out of its range.
    """
    if temperature <= 0 or top_k < 0 or not 0 < top_p <= 1:
        raise ValueError(
            f"temperature {temperature} must be above 0, top_k {top_k} not below, "
            f"top_p {top_p} above 0 and at most 1"
        )
    scaled = _normalized(log_probs.double() / temperature)
    if top_k == 0 and top_p == 1:
        return scaled
    # A stable sort: of equally probable children the first are kept, on any device.
    ordered, order = scaled.sort(dim=-1, descending=True, stable=True)
    if top_k:
        ordered[..., top_k:] = -torch.inf
    share = _normalized(ordered).exp()
    if top_p < 1:
        before = share.cumsum(dim=-1) - share
        ordered = ordered.masked_fill(before >= top_p, -torch.inf)
    return _normalized(torch.empty_like(scaled).scatter_(-1, order, ordered))


def _normalized(log_probs: Tensor) -> Tensor:
    # Rows without a child are full of -inf, of which log_softmax makes NaN.
    return log_probs.log_softmax(dim=-1).masked_fill(log_probs == -torch.inf, -torch.inf)


def _most_prefixes(trie: Trie, level: int, count: int) -> int:
    """Return how many prefixes of a level ``count`` candidates can have."""
    bounds = (*trie.first_of_level, trie.num_states)
    return min(count, bounds[level + 1] - bounds[level])


def _capacity(trie: Trie, count: int) -> int:
    return sum(_most_prefixes(trie, level, count) for level in range(1, trie.num_levels))


def _sample(
    policy: Policy,
    prompts: Prompts,
    count: int,
    temperature: float,
    top_k: int,
    top_p: float,
    kept_at: float,
    key: int,
) -> CandidateTree:
    decoder = TreeDecoder(policy, prompts, _capacity(policy.trie, count), kept_at)
    keys = prompt_keys(prompts, key)
    # What has been divided by one temperature already.
    return _draw(decoder, policy.trie, keys, count, temperature / kept_at, top_k, top_p)


def _draw(
    decoder: TreeDecoder,
    trie: Trie,
    keys: Tensor,
    count: int,
    temperature: float,
    top_k: int,
    top_p: float,
    known: Sequence[Level] = (),
) -> CandidateTree:
    """Draw ``count`` candidates for each of the [B] keys; ``known`` has what was read before."""
    keys = keys.unsqueeze(1)
    draws = torch.arange(count, device=keys.device)
    expansion = known[0].expansion if known else decoder.roots()
    # Where each draw stands: among the nodes expanded last, and among all; -1 under the prompt.
    node = torch.zeros(len(keys), count, dtype=torch.long, device=keys.device)
    place = torch.full_like(node, -1)
    states = torch.zeros_like(node)
    log_probs = []
    expanded = 0
    for level in range(trie.num_levels):
        if level:
            nodes, parents, node = _distinct(states, place, trie.dead)
            if known:
                expansion, places = _expand_unknown(decoder, trie, known[level], nodes, parents)
                place = places.gather(1, node)
            else:
                expansion = decoder.expand(nodes, parents, level)
                place = expanded + node
                expanded += nodes.shape[1]
        rows = node.unsqueeze(-1).expand(-1, -1, expansion.states.shape[-1])
        chances = sampling_log_probs(expansion.log_probs, temperature, top_k, top_p).exp()
        cumulated = chances.cumsum(dim=-1).gather(1, rows)
        at = uniform(keys, level, draws).unsqueeze(-1) * cumulated[..., -1:]
        # Only the NaN of a policy that diverged leads past the last child; its loss will tell.
        child = torch.searchsorted(cumulated, at, right=True).clamp(max=rows.shape[-1] - 1)
        states = expansion.states.gather(1, rows).gather(2, child).squeeze(-1)
        log_probs.append(expansion.log_probs.gather(1, rows).gather(2, child))
    return CandidateTree.build(trie, states, torch.cat(log_probs, dim=-1))


def _expand_unknown(
    decoder: TreeDecoder, trie: Trie, known: Level, states: Tensor, parents: Tensor
) -> tuple[Expansion, Tensor]:
    """Expand nodes [B, n] of a level, of which those that are known are not read again.

    Returns:
        Their children, and [B, n] the places by which they can be parents.
    """
    real = states != trie.dead
    same = (states.unsqueeze(2) == known.states.unsqueeze(1)) & real.unsqueeze(2)
    at = same.int().argmax(dim=2)
    rows = at.unsqueeze(-1)
    children, log_probs, hidden = (
        values.gather(1, rows.expand(-1, -1, values.shape[-1]))
        for values in (known.expansion.states, known.expansion.log_probs, known.expansion.hidden)
    )
    places = known.first + at
    new = (real & ~same.any(dim=2)).nonzero(as_tuple=True)
    if len(new[0]):
        places[new], hidden[new] = decoder.read(new[0], states[new], parents[new])
        width = children.shape[-1]
        children[new], log_probs[new] = decoder.children(states[new], hidden[new], width)
    return Expansion(children, log_probs, hidden), places


def _distinct(states: Tensor, parents: Tensor, dead: int) -> tuple[Tensor, Tensor, Tensor]:
    """Keep one of each prompt's equal states [B, G], which have equal parents [B, G].

    Returns:
        [B, n] the distinct states, ``dead`` where another prompt has more of them, [B, n] their
        parents, and [B, G] the place of each state.
    """
    ordered, order = states.sort(dim=1, stable=True)
    is_new = torch.ones_like(ordered, dtype=torch.bool)
    is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    place = is_new.cumsum(dim=1) - 1
    distinct = states.new_full((len(states), int(place.max()) + 1), dead)
    of_distinct = torch.full_like(distinct, -1).scatter_(1, place, parents.gather(1, order))
    distinct.scatter_(1, place, ordered)
    return distinct, of_distinct, torch.empty_like(place).scatter_(1, order, place)


def _stochastic_beam(
    policy: Policy, prompts: Prompts, width: int, temperature: float, top_k: int, key: int
) -> CandidateTree:
    trie = policy.trie
    keys = prompt_keys(prompts, key).view(-1, 1, 1)
    decoder = TreeDecoder(policy, prompts, _capacity(trie, width))
    expansion = decoder.roots()
    # phi and G of the paper for each prefix kept, and the policy's own log-probabilities.
    phi = torch.zeros(len(keys), 1, dtype=torch.double, device=keys.device)
    perturbed = torch.zeros_like(phi)
    log_probs = expansion.log_probs.new_zeros(len(keys), 1, 0)
    states = source = torch.zeros_like(phi, dtype=torch.long)
    place = torch.full_like(states, -1)
    expanded = 0
    for level in range(trie.num_levels):
        if level:
            expansion = decoder.expand(states, place.gather(1, source), level)
            place = expanded + torch.arange(states.shape[1], device=keys.device).expand_as(states)
            expanded += states.shape[1]
        own = phi.unsqueeze(-1) + sampling_log_probs(expansion.log_probs, temperature, top_k)
        # A state belongs to one level, so it alone says which random number is its own.
        noise = uniform(keys, expansion.states) + 2.0**-33
        free = own - torch.log(-torch.log(noise))
        totals = _conditioned(free, perturbed.unsqueeze(-1))
        totals = totals.masked_fill(own == -torch.inf, -torch.inf)
        flat = totals.flatten(1)
        kept = min(flat.shape[1], _most_prefixes(trie, level + 1, width))
        perturbed, index = flat.topk(kept, dim=1)
        real = perturbed > -torch.inf
        source = index // totals.shape[-1]
        states = torch.where(real, expansion.states.flatten(1).gather(1, index), trie.dead)
        phi = own.flatten(1).gather(1, index)
        code = expansion.log_probs.flatten(1).gather(1, index).unsqueeze(-1)
        rows = source.unsqueeze(-1).expand(-1, -1, level)
        log_probs = torch.cat([log_probs.gather(1, rows), code], dim=-1)
        log_probs = log_probs.masked_fill(~real.unsqueeze(-1), 0.0)
    likely = log_probs.sum(dim=-1).masked_fill(states == trie.dead, -torch.inf)
    order = likely.argsort(dim=1, descending=True, stable=True)
    missing = width - order.shape[1]
    states = pad(states.gather(1, order), (0, missing), value=trie.dead)
    rows = order.unsqueeze(-1).expand_as(log_probs)
    return CandidateTree.build(trie, states, pad(log_probs.gather(1, rows), (0, 0, 0, missing)))


def _conditioned(free: Tensor, largest: Tensor) -> Tensor:
    """Shift Gumbel variables so that the largest child equals its parent's (Kool et al., app. B.3).

    ``free`` [B, n, F] are perturbed log-probabilities of the children, -inf for none, ``largest``
    [B, n, 1] those of their parents. The order among siblings stays as it was.
    """
    below = torch.log1p(-(free - free.amax(dim=-1, keepdim=True)).exp())
    difference = largest - free + below
    return largest - difference.clamp(min=0) - torch.log1p((-difference.abs()).exp())
