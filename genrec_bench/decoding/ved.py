"""VED, V-STAR's value-guided efficient decoding: search where value and entropy are high.

Jiang et al. 2026, "Spend Search Where It Pays", §4.2. A narrow beam search plants a tree. Then a
prompt's tree is traversed again and again from the root by an upper confidence bound (Eq. 13), and
every node on the way whose priority (Eq. 11) is at least the mean of its level (Eq. 14) gains one
child, drawn from those it has not got. The work is bounded in backbone tokens: a prompt may spend
what a beam as wide as the group spends (§5.5), times ``token_budget``, and never more.

All prompts advance together: in a round each traverses its tree, and one forward pass reads the new
nodes of all. What the paper leaves open:

* Entropy (Eq. 12) is that of the policy over the codes that may follow, as in the authors' code: a
  search inside the catalog has no other choice.
* The root's prediction costs a token, as in §5.5, and each node that is read costs one. That holds
  for leaves too, which are read for their own value, though a beam reads none: of the budget of a
  beam of 16, 33 tokens at three levels, 8 go to the first beam's leaves. ``counted=beam`` leaves
  them out.
* The first beam is as wide as asked, but no wider than half the group, as in §5.1: it has to leave
  something for the search. If the budget cannot even pay for one whole path, that path's leaf is
  left out.
* Each traversal visits every node on its path once; new nodes have no visits. N_root counts the
  traversals before this one, so that the first has no bonus.
* Nodes of a path gain their children from the root on, until the budget is spent. The root passes
  its gate in every traversal, as the mean of its level is its own priority: it gains a new first
  code each time. Eq. 14 says so, and so does the authors' code. Without it the search stays under
  the first beam's first codes, which was no better where it was tried (``docs/log.md``).
* A prompt stops for good when no node of its tree is both decisive and short of a child, or after
  ``MOST_TRAVERSALS`` times its budget.
* Values pick the leaves; among equals, the policy's probability does. The list is ranked by
  probability, as a beam's is, unless ``ranked_by`` says otherwise.
* Where too few leaves were read, children of prefixes one code short fill a group up, the most
  probable of each prefix in turn, so that no prefix fills it alone. With the paper's own numbers
  (§5.1, three levels) that is no rare case: the first beam takes most of a budget of one.
  ``Search.filled`` counts.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from genrec_bench.decoding.beam import TreeDecoder, chunks
from genrec_bench.decoding.randomness import draw_key, prompt_keys, uniform
from genrec_bench.decoding.search_tree import SearchTree
from genrec_bench.decoding.value import Prefixes, Value
from genrec_bench.decoding.ved_options import MOST_TRAVERSALS, VEDOptions
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.tree import CandidateTree


@dataclass(frozen=True, eq=False)
class Search:
    """What was found, and what it took.

    Attributes:
        tree: the candidates, ranked as the options say: leaves that the search reached, and
            children of nodes one code short of a SID, which fill up a group.
        values: [B, G] value of each candidate, that of its prefix for those that fill up; -inf
            where there is none.
        tokens: [B] backbone tokens spent beyond the prompt's, one for the root's prediction, leaves
            that the budget does not count among them.
        rounds: forward passes after the first beam's, of the prompts that took most.
        traversals: [B].
        expansions: [B] children that nodes gained in traversals.
        filled: [B] how many candidates were not read but fill up.
        gated_out: [B] how often a node on a path was short of a child and gained none, since its
            priority was below the mean.
    """

    tree: CandidateTree
    values: Tensor
    tokens: Tensor
    rounds: int
    traversals: Tensor
    expansions: Tensor
    filled: Tensor
    gated_out: Tensor


@torch.no_grad()
def ved(
    policy: Policy,
    prompts: Prompts,
    count: int,
    value: Value,
    options: VEDOptions | None = None,
    key: int | None = None,
) -> Search:
    """Find candidates of high value.

    A prompt's candidates depend on its tokens and on the key, not on the other prompts or on how
    they are cut into forward passes, but for rounding.

    Args:
        count: G, candidates of each prompt.
        value: gives the value of prefixes; its rows are those of ``prompts``.
        options: the paper's by default.
        key: of the random numbers; by default one is drawn from torch's generator on the CPU.
    """
    options = options or VEDOptions()
    key = draw_key() if key is None else key
    most_read = options.most_read(policy.trie.num_levels, count)
    # Rounds are narrow: what bounds them is that keys of all nodes are kept, far fewer bytes than a
    # pass over as many tokens works with.
    widest = prompts.lengths.clamp(min=options.first_beam(count))
    sizes = torch.maximum(widest, (prompts.lengths + most_read) // 4)
    order = list(chunks(sizes, policy.tokens_per_forward))
    found = [
        _VED(policy, prompts.select(rows), rows, count, value, options, key).run() for rows in order
    ]
    rows = torch.cat(order)
    place = rows.argsort()

    def joined(name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in found])[place]

    tensors = {f.name: joined(f.name) for f in fields(Search) if f.name not in ("tree", "rounds")}
    return Search(
        tree=CandidateTree.join([part.tree for part in found], rows),
        rounds=max(part.rounds for part in found),
        **tensors,
    )


class _VED:
    """The search under some prompts."""

    def __init__(
        self,
        policy: Policy,
        prompts: Prompts,
        rows: Tensor,
        count: int,
        value: Value,
        options: VEDOptions,
        key: int,
    ) -> None:
        trie = policy.trie
        self._trie = trie
        self._rows = rows
        self._count = count
        self._value = value
        self._options = options
        self._keys = prompt_keys(prompts, key)
        self._budget = options.budget(trie.num_levels, count)
        self._most_traversals = MOST_TRAVERSALS * self._budget
        self._free_leaves = options.free_leaves
        self._decoder = TreeDecoder(policy, prompts, options.most_read(trie.num_levels, count))
        most = options.most_nodes(trie.num_levels, count)
        self._tree = SearchTree(trie, len(prompts), most, self._decoder.root_hidden)
        # Where the decoder keeps each node.
        self._places = torch.full_like(self._tree.states, -1)
        # Of the budget, and through the backbone; leaves may be read and not counted.
        self._spent = torch.zeros_like(self._keys)
        self._tokens = torch.zeros_like(self._keys)
        self._expansions = torch.zeros_like(self._keys)
        self._gated_out = torch.zeros_like(self._keys)

    def run(self) -> Search:
        """Plant the trees, search, and pick the candidates."""
        self._plant()
        rounds = 0
        while len((found := self._round())[0]):
            self._evaluate(*found)
            rounds += 1
        by = (self._options.picked_by, self._options.ranked_by)
        states, log_probs, values, filled = self._tree.candidates(self._count, *by)
        return Search(
            CandidateTree.build(self._trie, states, log_probs),
            values,
            self._tokens,
            rounds,
            self._tree.visits[:, 0].long(),
            self._expansions,
            filled.sum(dim=1),
            self._gated_out,
        )

    def _plant(self) -> None:
        """Stage 1: run a narrow beam search, every node of which becomes one of the tree."""
        tree, trie = self._tree, self._trie
        every = torch.arange(len(self._rows), device=self._keys.device)
        root = torch.zeros_like(every)
        self._rate(every, root, self._decoder.root_hidden, trie.fan_out[0])
        self._spent += 1
        self._tokens += 1
        num_levels = trie.num_levels
        cost = num_levels - 1 if self._free_leaves else num_levels
        width = self._options.first_beam(self._count)
        depth = num_levels
        if cost * width > self._budget - 1:
            width = (self._budget - 1) // cost
        if width == 0:
            width, depth = 1, num_levels - 1
        beam = root.unsqueeze(1)
        real = torch.ones_like(beam, dtype=torch.bool)
        for level in range(depth):
            fan_out = trie.fan_out[level]
            at = every.unsqueeze(1)
            scores = tree.open[at, beam, :fan_out] + tree.totals[at, beam].unsqueeze(-1)
            flat = scores.masked_fill(~real.unsqueeze(-1), -torch.inf).flatten(1)
            best, index = flat.topk(min(width, flat.shape[1]), dim=1)
            real = best > -torch.inf
            rows, columns = real.nonzero(as_tuple=True)
            parents = beam.gather(1, index // fan_out)
            nodes = tree.add(rows, parents[real], index[real] % fan_out)
            beam = torch.zeros_like(index)
            beam[rows, columns] = nodes
            if not (self._free_leaves and level == num_levels - 1):
                self._spent += real.sum(dim=1)
            self._evaluate(rows, nodes)

    def _evaluate(self, rows: Tensor, nodes: Tensor) -> None:
        """Read new nodes and rate them; leaves that have their parent's value are only rated."""
        tree = self._tree
        read = (rows, nodes)
        if self._options.leaf_value == "parent":
            inner = tree.levels[read] < self._trie.num_levels
            leaves = (rows[~inner], nodes[~inner])
            values = tree.values[leaves[0], tree.parents[leaves]]
            tree.rate(*leaves, values, values)
            read = (rows[inner], nodes[inner])
        if not len(read[0]):
            return
        self._tokens += torch.bincount(read[0], minlength=len(self._tokens))
        parents = self._places[read[0], tree.parents[read]]
        self._places[read], hidden = self._decoder.read(read[0], tree.states[read], parents)
        # The root has many children, all others mostly few.
        self._rate(*read, hidden, max(self._trie.fan_out[1:], default=1))

    def _rate(self, rows: Tensor, nodes: Tensor, hidden: Tensor, width: int) -> None:
        """Give nodes that were read their value, priority (Eq. 11) and up to ``width`` children."""
        tree, options = self._tree, self._options
        tree.hidden[rows, nodes] = hidden
        states, levels = tree.states[rows, nodes], tree.levels[rows, nodes]
        inner = levels < self._trie.num_levels
        _, log_probs = self._decoder.children(states[inner], hidden[inner], width)
        entropy = torch.zeros_like(levels, dtype=log_probs.dtype)
        entropy[inner] = tree.open_up(rows[inner], nodes[inner], log_probs)
        on_path = tree.hidden[rows.unsqueeze(1), tree.paths[rows, nodes]]
        of_code, of_path = tree.log_probs[rows, nodes], tree.totals[rows, nodes]
        asked = Prefixes(self._rows[rows], states, levels, of_code, of_path, on_path)
        values = self._value(asked).float()
        if options.priority == "V":
            priority = values
        elif options.priority == "H":
            priority = torch.where(inner, entropy, values)
        else:
            priority = values + options.entropy_weight * entropy
        tree.rate(rows, nodes, values, priority)

    def _round(self) -> tuple[Tensor, Tensor]:
        """Stages 2 and 3: traverse each tree until it has new nodes, or will have none.

        Returned are [R] the prompts of the new nodes, in ascending order, and [R] the nodes.
        """
        tree = self._tree
        decisive = tree.decisive()
        grown = torch.zeros_like(self._tokens)
        stuck = torch.zeros_like(grown, dtype=torch.bool)
        found: list[tuple[Tensor, Tensor]] = []
        while True:
            # Where nothing is decisive and open, no traversal will ever add anything.
            waiting = (decisive & (tree.num_open > 0)).any(dim=1)
            waiting &= (self._spent < self._budget) & ~stuck
            waiting &= grown < self._options.traversals_per_round
            number = tree.visits[:, 0].long()
            waiting &= number < self._most_traversals
            if not waiting.any():
                break
            path, on_path = tree.traverse(waiting, self._options.exploration)
            rows, nodes = self._expand(path, on_path, decisive, number)
            found.append((rows, nodes))
            # A way that adds nothing may lead to new nodes, which must be read before it leads on.
            stuck |= waiting.index_fill(0, rows, False) & (grown > 0)
            grown[rows] += 1
        if not found:
            return grown[:0], grown[:0]
        rows, nodes = (torch.cat(parts) for parts in zip(*found, strict=True))
        rows, order = rows.sort(stable=True)
        return rows, nodes[order]

    def _expand(
        self, path: Tensor, on_path: Tensor, decisive: Tensor, number: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Give each decisive node of the paths a child, if it is short of one and can be paid.

        The paths [B, L + 1] are those of ``traverse``; ``number`` [B] counts traversals before it.
        """
        tree, num_levels = self._tree, self._trie.num_levels
        short = on_path & (tree.num_open.gather(1, path) > 0)
        passes = short & decisive.gather(1, path)
        self._gated_out += (short & ~passes).sum(dim=1)
        cost = passes.long()
        if self._free_leaves:
            cost[:, num_levels - 1] = 0
        left = self._budget - self._spent
        passes &= cost.cumsum(dim=1) <= left.unsqueeze(1)
        self._spent += (cost * passes).sum(dim=1)
        self._expansions += passes.sum(dim=1)
        rows, levels = passes.nonzero(as_tuple=True)
        parents = path[rows, levels]
        chances = tree.open[rows, parents].softmax(dim=-1).double().cumsum(dim=-1)
        at = uniform(self._keys[rows], number[rows], levels) * chances[:, -1]
        child = torch.searchsorted(chances, at.unsqueeze(1), right=True).squeeze(1)
        # Only the NaN of a policy that diverged leads past the last child; its loss will tell.
        child = child.clamp(max=chances.shape[1] - 1)
        return rows, tree.add(rows, parents, child)
