"""The harness's own choices: what every algorithm of a comparison shares."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from genrec_bench.data.cards import FEEDBACK
from genrec_bench.errors import UserError
from genrec_bench.policy.policy import LOGPROB_SPACES
from genrec_bench.policy.precision import PRECISIONS, STORED, usual_precision
from genrec_bench.policy.templates import NEXT_ITEM, TASKS, TEMPLATES
from genrec_bench.training.hyperparameters import check_value
from genrec_bench.training.hyperparameters import fixed as setting
from genrec_bench.training.metrics import CUTOFFS, LIST_LENGTH
from genrec_bench.training.sft_tasks import task_weights, written_tasks
from genrec_bench.training.traces import traces_digest

BEST_BY = 10
"""Cutoff of the NDCG that ``keep=best`` goes by."""

AUTO = "auto"

REPORTED = ("ks", "metrics", "keep_lists")
"""Settings that say what is reported of a run, and change nothing of it."""

UNSAID: dict[str, Any] = {
    "anchor": 0.0,
    "mode": "direct",
    "sft_code_tokens": "backbone",
    "sft_targets": 1,
    "sft_tasks": NEXT_ITEM,
    "sft_trace_pace": 1.5,
    "sft_traces": "",
    "thought_tokens": 256,
}
"""Settings that are left out where they choose nothing, as in records that do not know them."""

PASSES = ("tokens_per_forward", "checkpointing", "acceleration")
"""Settings that say how work is cut and kept, and change no result."""


@dataclass(frozen=True)
class Settings:
    """Settable with ``--set`` like hyperparameters; an algorithm cannot have one of these names.

    ``request.py`` says which of them a comparison holds fixed.
    """

    traces_sha256: ClassVar[str] = ""
    """Of the file that ``sft_traces`` names, as it was when the settings were made."""

    group_size: int = setting(16, low=1, high=4096, help="G, candidates of a prompt in a rollout")
    prompts_per_step: int = setting(64, low=1, high=65536, help="prompts of one rollout")
    steps: int = setting(160, low=1, most=10_000_000, help="rollouts of a run without --budget")
    epochs: float = setting(
        0.0,
        low=0,
        most=10_000,
        help="of rollouts, in a run without --budget: as many steps as give each training example "
        "its turn so often; 0: steps counts",
    )
    beam_width: int = setting(20, low=1, high=4096, help="of the evaluation")
    ks: str = setting(
        "auto",
        help="K of HR, NDCG and utility, such as 1,5,10,50, up to beam_width; 10 is always among "
        "them. auto: 1, 3, 5, 10, 20 and 50, as far as the beam is wide",
    )
    metrics: str = setting("", help="Python file with metrics of your own, see docs/metrics.md")
    keep_lists: bool = setting(
        False, help="keep every list, with the names of users and items, beside the outcomes"
    )
    pass_samples: int = setting(10, low=0, high=4096, help="sampled for Pass@k; 0 leaves it out")
    pass_temperature: float = setting(0.7, low=0.01, high=100, help="temperature of these samples")
    pass_top_p: float = setting(0.9, low=1e-6, high=1, help="top-p of these samples")
    mode: str = setting(
        "direct",
        choices=("direct", "reason"),
        help="how these samples are drawn: at once, or each after thoughts of its own; lists are "
        "always ranked directly. reason is of prompt=gream",
    )
    thought_tokens: int = setting(
        256, low=1, high=65536, help="most tokens of thoughts with mode=reason"
    )
    validations: int = setting(8, low=0, high=1000, help="looks at validation data; cost no budget")
    validation_examples: int = setting(
        2000,
        low=1,
        most=100_000_000,
        help="examples of these looks, equal in all runs; all where there are fewer",
    )
    test_examples: int = setting(
        0,
        low=0,
        help="of each split that a run is judged on, a draw that is equal in all runs: for trials "
        "and quick looks, on a track of their own; 0 for all",
    )
    keep: str = setting(
        "last",
        choices=("last", "best"),
        help="weights that are judged: those at the end, or those of the best look by NDCG@10",
    )
    feedback: str = setting(
        "auto",
        choices=("auto", *FEEDBACK),
        help="what algorithms that roll out are given as targets: logged, or a purchase that a "
        "world draws for each visit of a prompt; auto: as the dataset's card says",
    )
    anchor: float = setting(
        0.0,
        low=0,
        high=1000,
        help="weight of the targets' negative log-likelihood beside the loss of any algorithm that "
        "rolls out; 0 for none",
    )
    embeddings: str = setting(
        "auto",
        help="of items, for algorithms that use them: text, collaborative, or the name of a "
        "sentence-transformers model; auto: text where there is any",
    )
    logprob_space: str = setting(
        "full",
        choices=LOGPROB_SPACES,
        help="codes over which a probability is normalised: the full vocabulary, the level's, "
        "or those that the trie allows",
    )
    prompt: str = setting(
        "auto",
        choices=("auto", "compact", *TEMPLATES),
        help="SIDs alone (compact), or a question in words as UGR (text) or GREAM (gream) puts it; "
        "auto: compact for tiny, text otherwise",
    )
    warmup: float = setting(0.03, low=0, high=0.9, help="share of the budget to warm up in")
    weight_decay: float = setting(0.01, low=0, high=1, help="of matrices, by AdamW")
    max_grad_norm: float = setting(1.0, low=1e-6, help="gradients are clipped to this norm")
    sft_epochs: float = setting(
        12.0, low=0, most=10_000, help="most epochs of SFT; 0 keeps the backbone"
    )
    sft_batch: int = setting(128, low=1, high=65536, help="training sequences of an SFT step")
    sft_targets: int = setting(
        1,
        low=1,
        high=4096,
        help="most targets of a training sequence whose history was cut: above 1, such windows of "
        "a user share sequences, which costs less, and earlier targets see fewer items than their "
        "example gives them, half of them at half of the history's length. Above 1, examples in "
        "words that continue each other share a sequence too, and see all that is theirs",
    )
    sft_learning_rate: float | None = setting(
        None, low=1e-8, high=1, help="peak learning rate of SFT; by default the backbone's"
    )
    sft_weight_decay: float = setting(0.1, low=0, high=1, help="of matrices, in SFT")
    sft_evaluations: float = setting(
        1.0, low=0.01, most=1000, help="validations of SFT in an epoch"
    )
    sft_patience: int = setting(3, low=1, most=10_000, help="validations without gain that end SFT")
    sft_valid_examples: int = setting(
        1024, low=1, most=100_000_000, help="validation examples that SFT is validated on"
    )
    sft_seed: int = setting(0, low=0, high=2**31 - 1, help="of the SFT start, shared by all runs")
    sft_tasks: str = setting(
        NEXT_ITEM,
        help="what SFT teaches, with weights, such as next-item,title-sid:0.5; beside next-item, "
        f"for prompts in words: {', '.join(TASKS)}",
    )
    sft_code_tokens: str = setting(
        "backbone",
        choices=("backbone", "titles"),
        help="what new code tokens of prompts in words start from: the backbone's mean token, or "
        "whatever it keeps in spare rows, or the mean of their items' titles",
    )
    sft_traces: str = setting(
        "",
        help="JSON lines with example, a row of the training split, and text, what to think before "
        "its answer: SFT learns them among its tasks; of prompt=gream",
    )
    sft_trace_pace: float = setting(
        1.5,
        low=0,
        high=1000,
        help="gamma, how soon batches of traces follow those of tasks; in the last epoch both are "
        "mixed evenly",
    )
    lora_rank: int = setting(
        0, low=0, most=4096, help="rank of LoRA adapters; 0 trains all weights"
    )
    precision: str = setting(
        AUTO,
        choices=(AUTO, *PRECISIONS),
        help="what passes compute in; trained weights and their optimizer are in float32 always. "
        "bf16: weights that adapters leave frozen are in bfloat16 too. auto: bf16-mixed on a GPU",
    )
    tokens_per_forward: int = setting(
        0, low=0, most=2**24, help="tokens of a forward pass; 0: what fits. Changes no result"
    )
    checkpointing: str = setting(
        AUTO,
        choices=(AUTO, "on", "off"),
        help="compute activations of layers again in the backward pass, for less memory and more "
        "time; auto: where passes would be too small else. Changes no result",
    )
    acceleration: str = setting(
        "off",
        choices=("off", "record"),
        help="record: on a GPU, passes of rollouts are recorded and replayed, as launching them "
        "takes longer than running them. Changes results by rounding alone",
    )

    def __post_init__(self) -> None:
        """Check every value; a ``UserError`` names it, and what would be right."""
        for field in dataclasses.fields(self):
            check_value(field, getattr(self, field.name))
        if self.precision == AUTO:
            # What ran is what is written down; a study's processes all do as its first one.
            object.__setattr__(self, "precision", usual_precision())
        if self.precision == "bf16" and not self.lora_rank:
            raise UserError(
                "precision=bf16: all weights are trained, and of weights in bfloat16 an update "
                "this small mostly rounds to nothing; set bf16-mixed, or a lora_rank"
            )
        if self.mode == "reason" and not self.pass_samples:
            raise UserError("mode=reason: is about samples; set pass_samples above 0")
        # Read once: what is written down is what was there when all began, wherever it lay.
        found = traces_digest(self.sft_traces) if self.sft_traces else ""
        object.__setattr__(self, "traces_sha256", found)
        object.__setattr__(self, "sft_tasks", written_tasks(task_weights(self.sft_tasks)))
        if self.keep == "best" and not self.validations:
            raise UserError("keep=best: needs looks to choose from; set validations above 0")
        if self.keep == "best" and self.beam_width < BEST_BY:
            raise UserError(
                f"keep=best: chooses by NDCG@{BEST_BY}; set beam_width={BEST_BY} or more"
            )

        if self.cutoffs[-1] > self.beam_width and self.ks != AUTO:
            raise UserError(
                f"ks={self.ks}: lists are beam_width={self.beam_width} long; set beam_width="
                f"{self.cutoffs[-1]} or more, which makes a track of its own"
            )

    @property
    def cutoffs(self) -> tuple[int, ...]:
        """K of the metrics, ascending; those above the beam width are left out in evaluation.

        Raises:
            UserError: ``ks`` is no list of numbers.
        """
        if self.ks == AUTO:
            return CUTOFFS
        words = [word.strip() for word in self.ks.split(",")]
        if not all(re.fullmatch(r"[1-9][0-9]{0,8}", word) for word in words):
            raise UserError(
                f"ks={self.ks}: must be {AUTO}, or whole numbers above 0 with commas between them, "
                "such as 1,5,10,50"
            )
        # Boards go by figures at this length.
        always = {LIST_LENGTH} if self.beam_width >= LIST_LENGTH else set()
        return tuple(sorted({int(word) for word in words} | always))

    def of_length(self, num_examples: int) -> Settings:
        """Return the settings with the steps that ``epochs`` of so many examples come to."""
        if not self.epochs:
            return self
        steps = max(1, math.ceil(self.epochs * num_examples / self.prompts_per_step))
        return dataclasses.replace(self, steps=steps, epochs=0.0)

    def resolved(self) -> dict[str, Any]:
        """Return every value that bears on results, by the name that records have for it."""
        values = dataclasses.asdict(self)
        for name in (*PASSES, *REPORTED):
            del values[name]
        # Steps are what came of it.
        del values["epochs"]
        values["dtype"] = STORED[values.pop("precision")]
        values["sft_traces"] = self.traces_sha256
        for name, usual in UNSAID.items():
            if values[name] == usual:
                del values[name]
        return values

    def sft(self) -> dict[str, Any]:
        """Return the values that the SFT start depends on, by name."""
        shared = ("logprob_space", "warmup", "max_grad_norm", "lora_rank", "dtype")
        return {
            name: value
            for name, value in self.resolved().items()
            if name.startswith("sft_") or name in shared
        }


SETTING_NAMES = tuple(field.name for field in dataclasses.fields(Settings))

_PRECISION_OF = {stored: name for name, stored in STORED.items()} | {"bfloat16": "bf16"}


def as_asked(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's settings, or a policy's, by the names by which they are set."""
    asked = dict(values)
    if "dtype" in asked:
        asked["precision"] = _PRECISION_OF.get(asked["dtype"], asked["dtype"])
        del asked["dtype"]
    return asked
