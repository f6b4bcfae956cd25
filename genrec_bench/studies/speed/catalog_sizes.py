"""``genrec-bench bench --sids``: how rollout, update, memory and start-up grow with the catalog.

A promise is measured: from ten thousand SIDs to ten million, rollout and update take at most
`PROMISE` times as long. Policies differ in their catalog alone, and take turns.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from genrec_bench.contract.tiny_world import tiny_catalog, tiny_trie
from genrec_bench.data.columns import Texts
from genrec_bench.data.dataset import Catalog
from genrec_bench.errors import UserError
from genrec_bench.progress import Progress
from genrec_bench.runs.environment import hardware, versions
from genrec_bench.studies.speed.bench import Workload, random_examples, seconds_of
from genrec_bench.studies.speed.contenders import Ours, random_policy
from genrec_bench.studies.text_tables import table_text

PROMISE = 1.2

FULLEST = 0.6
"""Share of all SIDs that a catalog may have: drawing more of them without repeats gets slow."""

MOST_SIDS = 10**8

MIB = 2**20


def read_sizes(text: str) -> tuple[int, ...]:
    """Read numbers of SIDs such as ``1e4,1e5``, ascending.

    Raises:
        UserError: one is no whole number from 100 to `MOST_SIDS`, or is given twice.
    """
    found = []
    for word in text.split(","):
        try:
            number = float(word)
        except ValueError:
            number = 0.0
        if not (100 <= number <= MOST_SIDS and number == int(number)):
            raise UserError(
                f"--sids {word.strip()}: must be a whole number from 100 to {MOST_SIDS:,}, such as "
                "1e5"
            )
        found.append(int(number))
    if len(set(found)) < len(found):
        raise UserError(f"--sids {text}: a number is given twice")
    return tuple(sorted(found))


def bench_catalogs(
    sizes: Sequence[int], workload: Workload | None = None, device: str | None = None
) -> dict[str, Any]:
    """Measure policies of the workload's small shape over random catalogs of several sizes.

    Args:
        sizes: numbers of SIDs, ascending.

    Returns:
        Under ``catalogs`` a row for each size: seconds until its SIDs are distinct and sorted
        (``catalog_s``), until there is a trie (``trie_s``) and a policy with a first rollout
        (``policy_s``); bytes of the catalog and of the trie; median milliseconds of rollout and
        update, and the fastest. Under ``growth`` the fastest of the last size by those of the
        first: what else a machine does only slows.

    Raises:
        UserError: no level may have so many codes.
    """
    workload = workload or Workload()
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    progress = Progress()
    codes = _codes_per_level(workload.codes_per_level, sizes[-1])
    rows: list[dict[str, Any]] = []
    contenders: list[Ours] = []
    for size in sizes:
        progress.say(f"bench: a catalog of {size:,} SIDs")
        row, ours = _begun(size, codes, workload, where)
        rows.append(row)
        contenders.append(ours)
    timed: dict[str, list[list[float]]] = {
        kind: [[] for _ in sizes] for kind in ("rollout", "update")
    }
    for number in range(workload.rounds):
        progress.say(f"bench: round {number + 1} of {workload.rounds}")
        for place, ours in enumerate(contenders):
            work: dict[str, Callable[[], object]] = {
                "rollout": ours.rollout,
                "update": ours.update,
            }
            for kind, does in work.items():
                timed[kind][place].append(seconds_of(does, where))
    for place, row in enumerate(rows):
        for kind, found in timed.items():
            row[f"{kind}_ms"] = 1e3 * statistics.median(found[place])
            row[f"{kind}_fastest_ms"] = 1e3 * min(found[place])
    growth = {
        kind: rows[-1][f"{kind}_fastest_ms"] / rows[0][f"{kind}_fastest_ms"] for kind in timed
    }
    return {
        "catalogs": rows,
        "growth": growth,
        "promise": PROMISE,
        "kept": max(growth.values()) <= PROMISE,
        "codes_per_level": list(codes),
        "num_prompts": workload.num_prompts,
        "hardware": hardware(str(where)) | {"threads": torch.get_num_threads()},
        "versions": versions(),
    }


def _codes_per_level(usual: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Return as many codes a level as so many SIDs take, one number for all catalogs."""
    count = usual[0]
    while FULLEST * count ** len(usual) < most:
        count *= 2
    if count > 2**16:
        raise UserError(f"--sids: {most:,} SIDs of {len(usual)} levels take {count} codes a level")
    return usual if count == usual[0] else (count,) * len(usual)


def _begun(
    size: int, codes: tuple[int, ...], workload: Workload, device: torch.device
) -> tuple[dict[str, Any], Ours]:
    """Return a row with what it takes to begin, and a policy over a catalog of that size."""
    cpu = torch.device("cpu")
    catalog = tiny_catalog(size, codes)
    catalog_s = seconds_of(lambda: catalog.unique_sids, cpu)
    found = []
    trie_s = seconds_of(lambda: found.append(tiny_trie(catalog)), cpu)
    examples = random_examples(catalog, workload)
    made = []

    def make() -> None:
        policy = random_policy(workload.small, catalog, device)
        made.append(Ours(policy, examples, workload.group_size))

    policy_s = seconds_of(make, device)
    trie = [value for value in vars(found[0]).values() if isinstance(value, torch.Tensor)]
    row = {
        "sids": size,
        "catalog_s": catalog_s,
        "trie_s": trie_s,
        "policy_s": policy_s,
        "catalog_bytes": catalog_bytes(catalog),
        "trie_bytes": sum(value.nbytes for value in trie),
    }
    return row, made[0]


def catalog_bytes(catalog: Catalog) -> int:
    """Return the bytes that a catalog takes, with what it has found out about its SIDs."""
    arrays = (catalog.sids, catalog.popularity, catalog.unique_sids, catalog.sid_of_item)
    texts = (Texts.of(catalog.item_names), Texts.of(catalog.titles))
    return sum(array.nbytes for array in arrays) + sum(column.nbytes for column in texts)


def catalogs_text(result: Mapping[str, Any]) -> str:
    """Write the result of `bench_catalogs` for people."""
    machine, growth = result["hardware"], result["growth"]
    rows = [
        [
            f"{row['sids']:,}",
            *(f"{row[f'{part}_s']:.2f}" for part in ("catalog", "trie", "policy")),
            *(f"{row[f'{part}_bytes'] / MIB:,.1f}" for part in ("catalog", "trie")),
            *(f"{row[f'{kind}_ms']:.1f}" for kind in ("rollout", "update")),
        ]
        for row in result["catalogs"]
    ]
    head = ["SIDs", "catalog s", "trie s", "policy s", "catalog MiB", "trie MiB"]
    table = table_text([*head, "rollout ms", "update ms"], rows, "simple", "r" * 8)
    first, last = (result["catalogs"][place]["sids"] for place in (0, -1))
    kept = "kept" if result["kept"] else "not kept"
    return (
        f"{machine['cpu']}, {machine['threads']} threads, device {machine['device']}; "
        f"{result['num_prompts']} prompts, codes {'x'.join(map(str, result['codes_per_level']))}"
        f"\n\n{table}\n\nFrom {first:,} to {last:,} SIDs: rollout {growth['rollout']:.2f} times, "
        f"update {growth['update']:.2f} times. At most {result['promise']:g} are promised: {kept} "
        "here."
    )
