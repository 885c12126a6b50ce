"""When a training is lost: its loss is no number, or far above what it has been."""

import math
import statistics
from collections.abc import Sequence

# Each token has become e times less likely than it was, over so many steps.
DIVERGED_NATS = 1.0
DIVERGED_STEPS = 50


# What is no longer kept over what was before: half of that, over a few steps.
RISEN_NATS = DIVERGED_NATS / 2
RISEN_STEPS = 5


def diverged(
    train_losses: Sequence[float],
    validation_losses: Sequence[float],
    last: int = DIVERGED_STEPS,
) -> str | None:
    """What the loss has become, in words; None as long as the training can be gone on with.

    The mean of the last training losses, one a step, is judged by the best before. A validation loss
    only has to be a number: where it rises and the training loss falls, a model learns by heart.
    """
    latest = train_losses[-last:]
    if not all(map(math.isfinite, (*latest, *validation_losses))):
        return "no number"
    if len(latest) < last:
        return None
    mean, best = statistics.fmean(latest), best_before(train_losses, last)
    return f"{mean:.2f}, after {best:.2f}" if mean > best + DIVERGED_NATS else None


def rising(train_losses: Sequence[float]) -> bool:
    """Whether the last few losses are far above the best before, or no numbers."""
    latest = train_losses[-RISEN_STEPS:]
    if not latest:
        return False
    return not statistics.fmean(latest) <= best_before(train_losses, RISEN_STEPS) + RISEN_NATS


def best_before(train_losses: Sequence[float], last: int) -> float:
    """The least mean of DIVERGED_STEPS losses in front of the last ones, or the very first loss.

    The first is that of guessing, near its mean whatever the batch.
    """
    ends = range(len(train_losses) - last, DIVERGED_STEPS - 1, -DIVERGED_STEPS)
    means = [statistics.fmean(train_losses[end - DIVERGED_STEPS : end]) for end in ends]
    return min((*train_losses[:1], *means))
