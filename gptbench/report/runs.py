"""What a record ran, in words."""

from gptbench.config import Workload
from gptbench.own import OwnModule
from gptbench.record import Record
from gptbench.report import words


def setting(rec: Record) -> str:
    """The workload of a record; of someone's own module with all that it is given.

    'train, 8x1024:int64, mask=8x1024:bool, bfloat16 (autocast)'
    """
    if not isinstance(rec.model, OwnModule):
        return words.workload(rec.workload)
    return own(rec.model, rec.workload)


def own(module: OwnModule, work: Workload) -> str:
    """The workload of someone's own module."""
    given = ", ".join(map(str, module.inputs))
    return f"{work.mode}, {given}, {words.dtype(work)}{words.compiled(work)}"


def rate(rec: Record) -> str:
    """'tokens/s', or 'samples/s' where a model's first input is no token ids."""
    return f"{rec.model.unit}s/s"


def ending(loss: str) -> tuple[str, ...]:
    """What a step of someone's own module ends in, where it was gptbench that chose."""
    chosen = loss.startswith(("next", "mean"))
    return (f"The step ends in the {loss}.",) if chosen else ()
