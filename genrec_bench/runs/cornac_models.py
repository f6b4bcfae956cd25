"""Sequential recommenders of the library cornac, given our split and asked for ranked lists.

Cornac's models learn from whole sequences, one session each, and so also from the first items of
histories. SASRec alone is trained here, on the training examples as they are and with the softmax
over all items: cornac's own loop samples negatives, and a sampled loss is what makes published
SASRecs look weak (Klenitskiy and Vasilev 2023, "Turning Dross Into Gold Loss").

Source: https://github.com/PreferredAI/cornac, 3.0.1, cornac/models/NAME.
"""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from genrec_bench.data.dataset import Dataset, Examples
from genrec_bench.data.exports import longest
from genrec_bench.data.vectors.embeddings import FOLDER
from genrec_bench.data.vectors.item_vectors import item_vectors
from genrec_bench.progress import Progress
from genrec_bench.runs.hosted_models import HOSTED, Hosted
from genrec_bench.training.candidate_lists import MISSING, places_of
from genrec_bench.training.metrics import rank_metrics

UNSCORED = -1e9
"""Below this are scores of items that a beam did not reach."""

SCORED_AT_ONCE = 256
"""Histories that SASRec's network is given."""

PATIENCE = 5
"""Epochs without a better look at validation data after which SASRec stops."""

FACTORS = 32
"""Dimensions of the item vectors that LETTER takes from purchases."""

CHOSEN_BY = "NDCG@10"


@dataclass(frozen=True, eq=False)
class CornacData:
    """A dataset as cornac has it; users and items keep their numbers.

    Attributes:
        judged: validation examples by which epochs and trials are chosen.
        train, valid: cornac's own data sets.
    """

    dataset: Dataset
    judged: Examples
    train: Any = field(repr=False)
    valid: Any = field(repr=False)


def cornac_data(
    dataset: Dataset, judged: Examples, vectors: NDArray[np.float32] | None = None
) -> CornacData:
    """Give cornac the training split, and the validation examples that it chooses epochs by.

    Args:
        vectors: [num_items, E], for models that make SIDs of their own.
    """
    train = longest([_sequence(dataset.train, i) for i in range(len(dataset.train))])
    sets = [_sessions(dataset, train)]
    sets.append(_sessions(dataset, [_sequence(judged, i) for i in range(len(judged))]))
    for each in sets:
        each.item_feature = SimpleNamespace(features=vectors)
    return CornacData(dataset, judged, *sets)


def vectors_of(dataset: Dataset, data_dir: Path, progress: Progress) -> NDArray[np.float32]:
    """[num_items, E] what texts say of items, or purchases where there are no titles."""
    contents = dataset.contents
    source = "text" if any(contents.titles) else "collaborative"
    texts = contents.titles, contents.descriptions
    return item_vectors(source, *texts, dataset.train, data_dir / FOLDER, progress)


def device() -> str:
    """What models are trained on."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def fit(hosted: Hosted, chosen: Mapping[str, Any], data: CornacData, seed: int) -> Any:
    """Train a model of cornac, and return it.

    Args:
        chosen: arguments in place of the first of those that are searched, and of fixed ones.
    """
    made = importlib.import_module("cornac.models")
    # Not all of its models seed what they draw.
    torch.manual_seed(seed)
    arguments = {key: choices[0] for key, choices in hosted.searched.items()}
    arguments |= {**hosted.fixed, **chosen, "seed": seed, "verbose": False}
    arguments["device"] = device()
    if hosted.reads_purchases:
        arguments |= {
            "cf_embeddings": _item_factors(data, seed),
            "cf_embedding_ids": list(range(data.dataset.catalog.num_items)),
        }
    if not hosted.own_loop:
        model = getattr(made, hosted.model)(**arguments)
        model.fit(data.train, data.valid)
        return model
    epochs, batch = arguments.pop("n_epochs"), arguments.pop("batch_size")
    rate = arguments.pop("learning_rate")
    # Of no epochs: cornac makes the network, and learns nothing.
    model = getattr(made, hosted.model)(**arguments, n_epochs=0)
    model.fit(data.train)
    _fit_whole_softmax(model, data, epochs, batch, rate, seed)
    return model


def _fit_whole_softmax(
    model: Any, data: CornacData, epochs: int, batch: int, rate: float, seed: int
) -> None:
    """Train cornac's SASRec on the training examples by the cross-entropy over all items.

    It stops after `PATIENCE` epochs without a better look at validation data, and keeps the best.
    """
    network, train = model.model, data.dataset.train
    histories = _padded(train, model.max_len, model.pad_idx).to(network.dev)
    targets = torch.from_numpy(train.targets.astype(np.int64)).to(network.dev)
    everything = torch.arange(data.dataset.catalog.num_items, device=network.dev)
    # As Kang and McAuley 2018 train theirs.
    optimizer = torch.optim.Adam(network.parameters(), lr=rate, betas=(0.9, 0.98))
    generator = torch.Generator().manual_seed(seed)
    best, kept, waited = -1.0, network.state_dict(), 0
    for _ in range(epochs):
        network.train()
        for rows in torch.randperm(len(targets), generator=generator).split(batch):
            scores = network(None, histories[rows], everything)
            loss = torch.nn.functional.cross_entropy(scores, targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        found = judge(model, data)
        waited += 1
        if found > best:
            best, waited = found, 0
            kept = {name: value.clone() for name, value in network.state_dict().items()}
        if waited >= PATIENCE:
            break
    network.load_state_dict(kept)


def _item_factors(data: CornacData, seed: int) -> NDArray[np.float32]:
    """[num_items, 32] item embeddings of a SASRec, of the size that LETTER's authors take."""
    sasrec = fit(HOSTED["sasrec"], {"embedding_dim": FACTORS}, data, seed)
    found: NDArray[np.float32] = sasrec.model.item_emb.weight[:-1].detach().cpu().numpy()
    return found


def judge(model: Any, data: CornacData) -> float:
    """The metric of `CHOSEN_BY` on the validation examples."""
    ranks = places_of(data.judged.targets, ranked(model, data.judged, 10))
    return rank_metrics(ranks, 10)[CHOSEN_BY]


@torch.no_grad()
def ranked(model: Any, examples: Examples, width: int) -> NDArray[np.int32]:
    """[n, W] a trained model's best items for each history, -1 where a beam found no more."""
    lists = np.full((len(examples), min(width, model.total_items)), MISSING, dtype=np.int32)
    for row, scores in enumerate(_scores(model, examples)):
        order = np.argsort(-scores, kind="stable")[:width]
        order = order[scores[order] > UNSCORED]
        lists[row, : len(order)] = order
    return lists


def _scores(model: Any, examples: Examples) -> Iterator[NDArray[Any]]:
    """[num_items] how well each item continues a history, for one history after the other.

    Cornac asks its models for one at a time; SASRec's network takes many, which is far faster.
    """
    if isinstance(model, importlib.import_module("cornac.models").SASRec):
        network = model.model.eval()
        everything = torch.arange(model.total_items, device=network.dev)
        for part in _padded(examples, model.max_len, model.pad_idx).split(SCORED_AT_ONCE):
            yield from network(None, part.to(network.dev), everything).cpu().numpy()
        return
    for row, user in enumerate(examples.users.tolist()):
        scores = model.score(user, examples.history(row).tolist())
        yield np.asarray(scores, dtype=np.float64)[: model.total_items]


def _padded(examples: Examples, length: int, padding: int) -> torch.Tensor:
    """[n, length] the last items of histories, padded on the left."""
    rows = np.full((len(examples), length), padding, dtype=np.int64)
    for row in range(len(examples)):
        history = examples.history(row)[-length:]
        rows[row, length - len(history) :] = history
    return torch.from_numpy(rows)


def _sequence(examples: Examples, row: int) -> tuple[str, tuple[int, ...]]:
    """An example's user, and its history with the target behind it."""
    items = (*examples.history(row).tolist(), int(examples.targets[row]))
    return str(examples.users[row]), items


def _sessions(dataset: Dataset, sequences: Sequence[tuple[str, tuple[int, ...]]]) -> Any:
    from cornac.data import SequentialDataset

    rows = [
        (int(user), session, item, time)
        for session, (user, items) in enumerate(sequences)
        for time, item in enumerate(items)
    ]
    users = 1 + max(int(part.users.max(initial=-1)) for part in dataset.splits.values())
    return SequentialDataset.build(
        rows,
        fmt="USIT",
        # All of them, so that each keeps its number.
        global_uid_map=OrderedDict((user, user) for user in range(users)),
        global_iid_map=OrderedDict((item, item) for item in range(dataset.catalog.num_items)),
    )
