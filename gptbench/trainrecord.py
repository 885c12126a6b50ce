"""The record of a training: what was asked, of which machine, and how the loss went down.

As in `record`, only facts are stored; rates, MFU and the time to a loss are computed on reading.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptbench import flops, stored
from gptbench.config import ModelConfig, Workload
from gptbench.corpus import Corpus
from gptbench.documents import to_builtins
from gptbench.errors import QuestionError
from gptbench.record import DeviceUsed
from gptbench.training import Evaluation, Recipe, Trained
from gptbench.upgrades import Document, brought_to

# 1: the first.
SCHEMA_VERSION = 1

FILE = "train.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRecord:
    """Everything needed to believe a training, or to repeat it.

    `data` and `tokenizer` are as they were typed; `eval_tokens` are what each validation loss is
    the mean of.
    """

    schema_version: int
    gptbench_version: str
    command: str
    started_at: str  # UTC, ISO 8601
    model: ModelConfig
    workload: Workload
    device: DeviceUsed
    data: str
    tokenizer: str
    corpus: Corpus
    recipe: Recipe
    eval_tokens: int
    target_loss: float | None
    trained: Trained

    def __post_init__(self) -> None:
        if not self.trained.evaluations:
            raise ValueError("a training has at least one validation loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What a record says. Rates are per second, fractions from 0 to 1, losses in nats a token.

    Rates are of all steps but the first of each process; None where there are no others. `mfu` is
    None where no peak is known too. `loader_share` is the part of the steps' time in which they
    waited for data. `to_target` is the first look at which the loss was down to the one asked for.
    """

    tokens: int
    epochs: float
    tokens_per_s: float | None
    step_time_s: float | None
    flops_per_token: float
    model_flops: float
    mfu: float | None
    loader_share: float
    first: Evaluation
    last: Evaluation
    best: Evaluation
    to_target: Evaluation | None


def derive(rec: TrainRecord) -> Learned:
    """The metrics of a record, computed afresh from its facts."""
    done, work = rec.trained, rec.workload
    steady_steps, steady_ns = done.steps - done.warm_steps, done.train_ns - done.warm_ns
    step_s = steady_ns / 1e9 / steady_steps if steady_steps > 0 and steady_ns > 0 else None
    rate = None if step_s is None else work.tokens / step_s
    cost = flops.step_flops(rec.model, work).per_token
    peak = rec.device.peak_flops_per_s
    tokens = done.steps * work.tokens
    return Learned(
        tokens=tokens,
        epochs=tokens / rec.corpus.train_tokens,
        tokens_per_s=rate,
        step_time_s=step_s,
        flops_per_token=cost,
        model_flops=tokens * cost,
        mfu=None if rate is None or peak is None else rate * cost / peak,
        loader_share=done.loader_ns / done.train_ns if done.train_ns else 0.0,
        first=done.evaluations[0],
        last=done.evaluations[-1],
        best=min(done.evaluations, key=lambda look: look.validation_loss),
        to_target=None if rec.target_loss is None else time_to(rec, rec.target_loss),
    )


def time_to(rec: TrainRecord, loss: float) -> Evaluation | None:
    """The first look at which the validation loss was down to `loss`; None where it never was."""
    looks = rec.trained.evaluations
    return next((look for look in looks if look.validation_loss <= loss), None)


def document(rec: TrainRecord) -> dict[str, Any]:
    """The record with what is derived of it, for readers without gptbench."""
    return {**to_builtins(rec), "result": to_builtins(derive(rec))}


def read(path: Path) -> TrainRecord:
    """The record of a train.json, or of the folder that holds one.

    Raises QuestionError that names the file and what is wrong, UnknownSchemaError if its version.
    """
    path = path / FILE if path.is_dir() else path
    found = stored.document(path)
    if "trained" not in found:
        raise QuestionError(f"'{path}' is no record of a training.")
    return of(found, path)


def of(document: Document, path: Path) -> TrainRecord:
    """The record that a file's document holds.

    Raises QuestionError that names the file and what is wrong, UnknownSchemaError if its version.
    """
    return stored.value(document, path, TrainRecord, _upgraded)


def _upgraded(document: Document) -> Document:
    return brought_to(SCHEMA_VERSION, document, {})
