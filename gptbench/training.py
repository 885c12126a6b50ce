"""Training: what a worker is asked to train, and how it went."""

from dataclasses import dataclass
from typing import Literal

from gptbench.config import ModelConfig, Workload
from gptbench.corpus import Corpus
from gptbench.tasks import Kind

Scalar = str | int | float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a model is trained: AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) and its rates.

    The learning rate climbs for `warmup_steps` and falls by half a cosine to a tenth at `steps`.
    `weight_decay` is that of matrices; nothing else decays. Gradients longer than `grad_clip`
    together are shortened to it; 0: never. `dropout` is the share of numbers set to zero.
    """

    steps: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    grad_clip: float
    dropout: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainTask:
    """Asks a worker to train a model, and to keep it in the folder `checkpoint` as it goes.

    The tokens of the `corpus` are beneath the folder `token_cache`.
    The validation loss is that of at most `eval_batches` batches, always the same. Training ends
    early where it is down to `target_loss`, or after `time_s` seconds. `resume` goes on from the
    checkpoint. `exercises` lines of arithmetic are solved before and after. A step's tokens cost
    `flops_per_token`, and the device can do `peak_flops_per_s`: both are for the live line alone.
    """

    model: ModelConfig
    workload: Workload
    corpus: Corpus
    token_cache: str
    recipe: Recipe
    device: Kind
    eval_every: int
    eval_batches: int
    target_loss: float | None
    time_s: float | None
    checkpoint: str | None
    resume: bool
    exercises: int
    flops_per_token: float
    peak_flops_per_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Losses after so many steps, in nats a token; `train_loss` is the mean since the one before.

    `train_ns` went into steps until then, waiting for data included; `wall_ns` passed in all.
    """

    step: int
    train_ns: int
    wall_ns: int
    train_loss: float | None
    validation_loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A worker's answer to a TrainTask.

    `train_losses` are means over `loss_every` steps each, the last one over what is left. Of
    `train_ns`, the time of all steps, the first `warm_steps` of each process took `warm_ns`, and
    steps waited `loader_ns` for their data. `resumed_at` are the steps at which a process went on.
    `solved_before` and `solved_after` are shares of the exercises, where there were any.
    """

    steps: int
    stop: Literal["steps", "target", "time"]
    evaluations: tuple[Evaluation, ...]
    train_losses: tuple[float, ...]
    loss_every: int
    train_ns: int
    warm_ns: int
    warm_steps: int
    loader_ns: int
    wall_ns: int
    resumed_at: tuple[int, ...]
    solved_before: float | None
    solved_after: float | None
    peak_memory_bytes: int | None
    environment: dict[str, Scalar]
