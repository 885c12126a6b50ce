"""The job of training: a text becomes tokens, a model learns them, a record says how.

What can be refused is refused before the text is read; what the text decides, before the device
is looked at.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from gptbench import __version__, cache, flops, inputs, runner, throughput
from gptbench.config import ModelConfig
from gptbench.corpus import Corpus, CorpusTask, Source, parse_source, parse_tokenizer
from gptbench.errors import OutOfMemoryError, QuestionError
from gptbench.process import Progress
from gptbench.question import Asked, Question, read
from gptbench.throughput import Plan
from gptbench.training import Recipe, TrainTask
from gptbench.trainrecord import SCHEMA_VERSION, TrainRecord
from gptbench.units import parse_seconds

# Where a training is kept in the folder of its results.
CHECKPOINT = "checkpoint"

# Looks at the validation loss where nobody says how often.
LOOKS = 20

# The first of the validation text that are solved before and after.
EXERCISES = 500

MOST_WARMUP_STEPS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainQuestion:
    """What a person typed, `question` as for every run of a model; None is left to gptbench."""

    question: Question
    data: str
    tokenizer: str
    steps: int
    learning_rate: float
    warmup_steps: int | None
    weight_decay: float
    grad_clip: float
    dropout: float
    seed: int
    eval_every: int | None
    eval_batches: int
    target_loss: float | None
    time: str | None
    out: Path | None
    resume: bool


def run(asked: TrainQuestion, progress: Progress) -> TrainRecord:
    """Answer the question.

    Raises QuestionError and UnavailableError, whose exit codes are in errors.py.
    """
    source, recipe, place = _source(asked), _recipe(asked), _checkpoint(asked)
    time_s = parse_seconds(asked.time) if asked.time else None
    if asked.resume and place is not None and asked.question.batch_size is None:
        began = replace(asked.question, batch_size=_batch_size_of(place))
        asked = replace(asked, question=began)
    heard, preset = _heard(asked.question)
    if asked.question.device == "cuda":
        # A device that is not here is told of before a long text is read.
        throughput.detect(asked.question, heard, progress)
    text = _corpus(asked, source, preset, progress)
    model = _learning(preset, text, asked.question.seq_len)
    ready = throughput.prepared(asked.question, replace(heard, model=model), progress)
    work = ready.plan.work
    throughput.refuse_hopeless(ready.plan)
    task = TrainTask(
        model=model,
        workload=work,
        corpus=text,
        token_cache=_token_cache(),
        recipe=recipe,
        device=ready.used.kind,
        eval_every=asked.eval_every or max(1, asked.steps // LOOKS),
        eval_batches=asked.eval_batches,
        target_loss=asked.target_loss,
        time_s=time_s,
        checkpoint=None if place is None else str(place.resolve()),
        resume=asked.resume,
        exercises=EXERCISES if source.kind == "algebra" else 0,
        flops_per_token=flops.step_flops(model, work).per_token,
        peak_flops_per_s=ready.used.peak_flops_per_s,
    )
    try:
        trained = runner.train(task, progress)
    except OutOfMemoryError as error:
        raise _does_not_fit(ready.plan, error, place) from error
    rows = min(asked.eval_batches * work.batch_size, (text.validation_tokens - 1) // work.seq_len)
    return TrainRecord(
        schema_version=SCHEMA_VERSION,
        gptbench_version=__version__,
        command=asked.question.command,
        started_at=ready.started_at,
        model=model,
        workload=work,
        device=ready.used,
        data=asked.data,
        tokenizer=asked.tokenizer,
        corpus=text,
        recipe=recipe,
        eval_tokens=rows * work.seq_len,
        target_loss=asked.target_loss,
        trained=trained,
    )


def _source(asked: TrainQuestion) -> Source:
    """Where the text is from. Raises QuestionError for a path that is not there."""
    source = parse_source(asked.data)
    if source.kind == "path" and not Path(source.name).exists():
        raise QuestionError(
            f"--data '{source.name}' is not there. Type a text file, a folder of them, algebra, or "
            "datasets:NAME."
        )
    return source


def _recipe(asked: TrainQuestion) -> Recipe:
    """How the model is trained. Raises QuestionError for numbers that train nothing."""
    warmup = asked.warmup_steps
    if warmup is None:
        warmup = min(MOST_WARMUP_STEPS, asked.steps // 10)
    if warmup > asked.steps:
        raise QuestionError(
            f"--warmup-steps {warmup} is over --steps {asked.steps}: the learning rate would never "
            "be reached."
        )
    for option, value, most in (
        ("--learning-rate", asked.learning_rate, 1e3),
        ("--weight-decay", asked.weight_decay, 1e3),
        ("--grad-clip", asked.grad_clip, 1e9),
        ("--dropout", asked.dropout, 0.99),
        ("--target-loss", asked.target_loss or 0.0, 1e3),
    ):
        if not 0 <= value <= most:  # false of NaN
            raise QuestionError(f"{option} {value:g} must lie between 0 and {most:g}.")
    return Recipe(
        steps=asked.steps,
        learning_rate=asked.learning_rate,
        warmup_steps=warmup,
        weight_decay=asked.weight_decay,
        grad_clip=asked.grad_clip,
        dropout=asked.dropout,
        seed=asked.seed,
    )


def _checkpoint(asked: TrainQuestion) -> Path | None:
    """Where the training is kept. Raises QuestionError where one would be lost, or is missing."""
    if asked.out is None:
        if asked.resume:
            raise QuestionError("--resume goes on from what --out DIR holds. Type --out too.")
        return None
    place = asked.out / CHECKPOINT
    # A save that was killed between its two renames has put the old one aside.
    there = place.exists() or (asked.out / f".{CHECKPOINT}.old").exists()
    if there and not asked.resume:
        raise QuestionError(
            f"'{asked.out}' holds a training already. Type --resume to go on with it, or another "
            "--out."
        )
    if asked.resume and not there:
        raise QuestionError(f"'{asked.out}' holds no training yet. Leave --resume out.")
    return place


def _batch_size_of(place: Path) -> int | None:
    """The batch of a training that goes on, whatever memory is free now; None where nobody knows."""
    folders = (place, place.with_name(f".{place.name}.old"))
    for folder in folders:
        try:
            size = json.loads((folder / "state.json").read_bytes())["asked"]["--batch-size"]
        except (OSError, ValueError, LookupError, TypeError):
            continue
        return size if isinstance(size, int) else None
    return None


def _heard(question: Question) -> tuple[Asked, ModelConfig]:
    """The question read, and the preset that is trained. Raises QuestionError where it is none."""
    if question.model is not None and not inputs.is_target(question.model):
        asked = read(question)
        if isinstance(asked.model, ModelConfig):
            return asked, asked.model
    raise QuestionError("only presets are trained. Type a MODEL that 'gptbench presets' has.")


def _does_not_fit(plan: Plan, error: OutOfMemoryError, place: Path | None) -> OutOfMemoryError:
    """The error for a person, with options that a training has and that need less memory."""
    work = plan.work
    less = ["a shorter --seq-len"]
    if work.batch_size > 1:
        smaller, times = -(-work.batch_size // 2), 2 * work.grad_accum
        less.append(f"--batch-size {smaller} --grad-accum {times} for as many tokens a step")
    if work.recompute != "block":
        less.append("--recompute block")
    if work.dtype == "float32":
        less.append("--dtype bfloat16")
    kept = f" What was kept is in '{place}'." if place is not None and place.exists() else ""
    return OutOfMemoryError(
        f"{throughput.what_does_not_fit(plan, None, error)} Type {', or '.join(less)}.{kept}"
    )


def _learning(preset: ModelConfig, text: Corpus, seq_len: int | None) -> ModelConfig:
    """The preset with the text's vocabulary, and no context beyond what it is trained on."""
    model = replace(preset, vocab_size=text.vocab_size)
    if seq_len is None or seq_len >= preset.n_ctx:
        return model
    rows = seq_len if preset.positions == "learned" else preset.position_rows
    return replace(model, n_ctx=seq_len, position_rows=rows)


def _token_cache() -> str:
    """Where the tokens of every text are kept."""
    return str(cache.folder() / "tokens")


def _corpus(asked: TrainQuestion, source: Source, model: ModelConfig, progress: Progress) -> Corpus:
    """The text as tokens. Raises QuestionError where they are fewer than a sequence needs."""
    kind, size = parse_tokenizer(asked.tokenizer)
    task = CorpusTask(
        source=source,
        tokenizer=kind,
        tokenizer_size=size,
        seed=asked.seed,
        cache=_token_cache(),
    )
    text = runner.corpus(task, progress)
    needed = (asked.question.seq_len or model.n_ctx) + 1
    for part, tokens in (("training", text.train_tokens), ("validation", text.validation_tokens)):
        if tokens < needed:
            raise QuestionError(
                f"the {part} part of --data '{asked.data}' has {tokens:,} tokens, fewer than one "
                f"sequence of {needed:,} needs. Give a longer text, or a smaller --seq-len."
            )
    return text
