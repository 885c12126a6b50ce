"""The tables and sentences of a training: what came of it, and its losses look by look."""

from pathlib import Path

from gptbench import trainrecord
from gptbench.report import words
from gptbench.report.table import DASH, Cell, Column, Quantity, Table, count, known, share
from gptbench.training import Evaluation
from gptbench.trainrecord import Learned, TrainRecord
from gptbench.units import duration, gib, percent, seconds, si

STOPS = {
    "steps": "all steps were done",
    "target": "the validation loss was down to the one asked for",
    "time": "the time was over; --resume goes on",
}

# Name and meaning of each column of train.csv, in order.
COLUMNS: dict[str, str] = {
    "text": "training, which is with dropout, or validation, which is never trained on",
    "step": "steps that were done then",
    "loss (nats/token)": "of training the mean since the row before, of validation that of a look",
    "training_time (s)": "time that the steps took until then; of validation only",
    "wall_time (s)": "the same with looks and checkpoints",
}


def tables(rec: TrainRecord) -> list[Table]:
    """The result, and the losses behind it."""
    return [result(rec), looks(rec)]


def result(rec: TrainRecord) -> Table:
    """What came of the training, in its order of interest."""
    found, done = trainrecord.derive(rec), rec.trained
    rows: list[tuple[Cell, ...]] = [
        ("validation loss", nats(found.last.validation_loss), _over(rec)),
        ("best validation loss", nats(found.best.validation_loss), _at(found.best)),
        ("loss before training", nats(found.first.validation_loss), ""),
        *_target(rec, found),
        *_solved(rec),
        ("training time", time(done.train_ns), f"{done.steps:,} steps, without the looks"),
        ("time in all", time(done.wall_ns), "looks and checkpoints too"),
        ("tokens read", count(found.tokens), f"the training text {found.epochs:.3g} times"),
        ("tokens/s", known(found.tokens_per_s, si), _warm(rec)),
        ("MFU", known(found.mfu, percent), _peak(rec)),
        ("waiting for data", share(found.loader_share), "of the steps' time"),
        ("peak memory", known(done.peak_memory_bytes, gib), ""),
    ]
    return Table(
        title=f"{rec.model.name} on {rec.device.name}: {setting(rec)}",
        columns=(Column("quantity"), Column("value", right=True), Column("of what", wraps=True)),
        rows=tuple(rows),
        notes=(f"It ended because {STOPS[done.stop]}.", *_resumed(rec)),
    )


def looks(rec: TrainRecord) -> Table:
    """Every look at the validation loss."""
    return Table(
        title="Losses in nats a token",
        columns=(
            Column("step", right=True),
            Column("training", right=True),
            Column("validation", right=True),
            Column("training time", right=True),
        ),
        rows=tuple(
            (
                count(look.step),
                DASH if look.train_loss is None else nats(look.train_loss),
                nats(look.validation_loss),
                time(look.train_ns),
            )
            for look in rec.trained.evaluations
        ),
    )


def tidy(rec: TrainRecord) -> Table:
    """The losses for programs: a row a point of the curve, base units."""
    done = rec.trained
    means = [
        (
            "training",
            count(min(done.steps, (at + 1) * done.loss_every)),
            nats(loss),
            DASH,
            DASH,
        )
        for at, loss in enumerate(done.train_losses)
    ]
    seen = [
        (
            "validation",
            count(look.step),
            nats(look.validation_loss),
            time(look.train_ns),
            time(look.wall_ns),
        )
        for look in done.evaluations
    ]
    return Table(
        title="Losses",
        columns=tuple(map(Column, COLUMNS)),
        rows=(*means, *seen),
    )


def summary(rec: TrainRecord) -> str:
    """The answer in a sentence."""
    found, done = trainrecord.derive(rec), rec.trained
    rate = f" at {si(found.tokens_per_s)} tokens/s" if found.tokens_per_s else ""
    return (
        f"{rec.model.name} learned {Path(rec.data).name} to a validation loss of "
        f"{found.last.validation_loss:.4f} in {_shown(done.train_ns)}{rate} on one "
        f"{rec.device.name}."
    )


def setting(rec: TrainRecord) -> str:
    """'train, 8 × 64 tokens, float32, fused attention, char tokenizer of 65'."""
    return f"{words.workload(rec.workload)}, {rec.tokenizer} tokenizer of {rec.corpus.vocab_size:,}"


def numbers(rec: TrainRecord) -> list[tuple[str, str, str]]:
    """The key numbers of a page: name, value, and what they come with."""
    found, done = trainrecord.derive(rec), rec.trained
    target = found.to_target
    asked = (
        []
        if target is None
        else [("time to loss", _shown(target.train_ns), f"{rec.target_loss:g} {_at(target)}")]
    )
    rate = DASH if found.tokens_per_s is None else si(found.tokens_per_s)
    mfu = DASH if found.mfu is None else percent(found.mfu)
    loss = f"{found.last.validation_loss:.4f}"
    best = f"nats a token; the best {found.best.validation_loss:.4f} {_at(found.best)}"
    return [
        ("validation loss", loss, best),
        *asked,
        ("training time", _shown(done.train_ns), f"{done.steps:,} steps"),
        ("tokens/s", rate, _warm(rec)),
        ("MFU", mfu, _peak(rec)),
    ]


def provenance(rec: TrainRecord) -> Table:
    """Where a training is from: text, recipe, versions and machine."""
    recipe, text = rec.recipe, rec.corpus
    facts = {
        "gptbench": rec.gptbench_version,
        "record schema": rec.schema_version,
        "started at": rec.started_at,
        "data": rec.data,
        "tokens for training": f"{text.train_tokens:,}",
        "tokens for validation": f"{text.validation_tokens:,}",
        "hash of text and tokenizer": text.key,
        "learning rate": f"{recipe.learning_rate:g} after {recipe.warmup_steps} steps",
        "weight decay": f"{recipe.weight_decay:g}",
        "gradients clipped to": f"{recipe.grad_clip:g}",
        "dropout": f"{recipe.dropout:g}",
        "seed": recipe.seed,
        **rec.trained.environment,
    }
    return Table(
        title="Provenance",
        columns=(Column("fact"), Column("value", wraps=True)),
        rows=tuple((name, DASH if v is None else str(v)) for name, v in facts.items()),
    )


def nats(loss: float) -> Quantity:
    """A loss, in nats a token."""
    return Quantity(loss, f"{loss:.4f}")


def time(ns: int) -> Quantity:
    """A duration in seconds, as a person reads it."""
    return Quantity(ns / 1e9, _shown(ns))


def _shown(ns: int) -> str:
    """'420 ms', '42.1 s', '3 min 05 s', '1.20 hours'."""
    time_s = ns / 1e9
    if 0 < time_s < 1:
        return seconds(time_s)
    if time_s < 100:
        return f"{time_s:.1f} s"
    return (
        f"{int(time_s) // 60} min {int(time_s) % 60:02d} s" if time_s < 3600 else duration(time_s)
    )


def _at(look: Evaluation) -> str:
    return f"at step {look.step:,}"


def _over(rec: TrainRecord) -> str:
    of = rec.corpus.validation_tokens
    return f"nats a token, over {rec.eval_tokens:,} of {of:,} tokens that are not trained on"


def _target(rec: TrainRecord, found: Learned) -> list[tuple[Cell, ...]]:
    if rec.target_loss is None:
        return []
    reached = found.to_target
    if reached is None:
        return [(f"time to {rec.target_loss:g}", DASH, "it was not reached")]
    after = f"{_at(reached)}; {_shown(reached.wall_ns)} with looks and checkpoints"
    return [(f"time to {rec.target_loss:g}", time(reached.train_ns), after)]


def _solved(rec: TrainRecord) -> list[tuple[Cell, ...]]:
    before, after = rec.trained.solved_before, rec.trained.solved_after
    if before is None or after is None:
        return []
    of = f"of unseen exercises, to the last digit; {percent(before)} before training"
    return [("exact match", share(after), of)]


def _warm(rec: TrainRecord) -> str:
    return f"without the first {rec.trained.warm_steps} steps"


def _peak(rec: TrainRecord) -> str:
    used = rec.device
    if used.peak_flops_per_s is None:
        return "no peak is known"
    return f"of {si(used.peak_flops_per_s, 'FLOP/s')} {used.peak_dtype} ({used.peak_source})"


def _resumed(rec: TrainRecord) -> tuple[str, ...]:
    at = rec.trained.resumed_at
    return (f"It was resumed at step {', '.join(f'{step:,}' for step in at)}.",) if at else ()
