"""What would make room, and what would make a step fit: each by predicting the step again."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from gptbench.memory import Case
from gptbench.units import gib

# Of a fused linear cross-entropy, such as Liger Kernel's (arXiv:2410.10989): few enough to be as
# fast, and enough for the logits not to matter.
LOSS_CHUNKS = 8

SHORTEST = 16

# From a case to (what a person would type or do, the case with that one thing changed).
Changes = Callable[[Case], Iterator[tuple[str, Case]]]

# What a step has to save that was predicted to fit and did not.
SAVING = 0.2


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing that could be done otherwise, and what it would leave.

    `largest_batch` is None where no device was named.
    """

    option: str
    saved_bytes: int
    total_bytes: int
    largest_batch: int | None = None


def ranked(case: Case, limit_bytes: int | None = None) -> tuple[Advice, ...]:
    """What would make room, most first; what is done already, or makes none, is left out."""
    now = case.footprint.total
    found = []
    for option, other in alternatives(case):
        total = other.footprint.total
        if total < now:
            most = other.largest_batch(limit_bytes) if limit_bytes else None
            found.append(Advice(option, now - total, total, most))
    return tuple(sorted(found, key=lambda one: -one.saved_bytes))


def alternatives(case: Case) -> Iterator[tuple[str, Case]]:
    """Everything that could be done otherwise with as many tokens."""
    yield from options(case)
    if case.work.mode != "train":
        return
    setup = case.setup
    if setup.optimizer in ("adamw", "adamw-master"):
        yield "--optimizer adamw-bf16", replace(case, setup=replace(setup, optimizer="adamw-bf16"))
    chunked = replace(setup, loss_chunks=LOSS_CHUNKS)
    yield f"the loss in {LOSS_CHUNKS} chunks", replace(case, setup=chunked)


def options(case: Case) -> Iterator[tuple[str, Case]]:
    """Those of the alternatives that the measured step has too."""
    work = case.work
    if work.attention == "math" and not case.model.attention_sinks:
        yield "--attention fused", replace(case, work=replace(work, attention="fused"))
    narrow = case.setup.narrow
    if work.dtype == "float32" and narrow != "float32":
        cast = replace(work, dtype=narrow, autocast=True, tf32=False)
        yield f"--dtype {narrow}", replace(case, work=cast)
    if work.autocast:
        yield "--pure", replace(case, work=replace(work, autocast=False))
    if work.mode == "train":
        for what in ("attention", "block"):
            if work.recompute not in (what, "block"):
                yield f"--recompute {what}", replace(case, work=replace(work, recompute=what))


def what_would_fit(case: Case, limit_bytes: int, changes: Changes = options) -> str:
    """A sentence: which changes are predicted to bring the case below the limit.

    One of them, or a shorter sequence, or all that make room at once.
    """
    total = case.footprint.total
    room = limit_bytes if total > limit_bytes else int((1 - SAVING) * total)
    alone = [(option, other.footprint.total) for option, other in changes(case)]
    fit = [f"{option} ({gib(size)})" for option, size in alone if size <= room]
    if shorter := _longest(case, room):
        fit.append(_sequence(shorter))
    if fit:
        return f"Predicted to fit: {', or '.join(fit)}."
    names, together = all_at_once(case, changes)
    fitting = together if together.footprint.total <= room else _longest(together, room)
    if fitting is None:
        least = replace(together, work=replace(together.work, seq_len=SHORTEST))
        return (
            "No option makes this model fit, which takes "
            f"{gib(least.footprint.total)} at the least. Use a smaller model, or more memory."
        )
    last = [] if fitting is together else [_sequence(fitting)]
    size = gib(fitting.footprint.total)
    return f"Predicted to fit, in {size}, all together: {', '.join([*names, *last])}."


def all_at_once(case: Case, changes: Changes) -> tuple[list[str], Case]:
    """(what a person would type or do, the case with everything changed that makes room).

    An option has one value: the last that made room.
    """
    names: dict[str, str] = {}
    while found := _useful(case, changes, names.values()):
        name, case = found
        names[_option(name)] = name
    return list(names.values()), case


def _option(name: str) -> str:
    """'--recompute block' is one of the values of '--recompute'."""
    return name.split(maxsplit=1)[0] if name.startswith("--") else name


def _useful(case: Case, changes: Changes, done: Iterable[str]) -> tuple[str, Case] | None:
    """The first change that is not made yet and makes room."""
    total = case.footprint.total
    for name, other in changes(case):
        if name not in done and other.footprint.total < total:
            return name, other
    return None


def _longest(case: Case, room_bytes: int) -> Case | None:
    """The case with the largest half, quarter, ... of the sequence that fits; None for none."""
    seq_len = case.work.seq_len // 2
    while seq_len >= SHORTEST:
        shorter = replace(case, work=replace(case.work, seq_len=seq_len))
        if shorter.footprint.total <= room_bytes:
            return shorter
        seq_len //= 2
    return None


def _sequence(case: Case) -> str:
    return f"--seq-len {case.work.seq_len} ({gib(case.footprint.total)})"
