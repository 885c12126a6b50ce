"""Where a training stands, as tensors and JSON, and the same again: nothing of it is rounded.

On a CPU a training that goes on ends with the same bits as one at once. On a GPU it begins with
them: some of CUDA's kernels, such as fused attention's backward, add in any order.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gptbench.documents import dump_json, from_builtins, to_builtins
from gptbench.errors import QuestionError
from gptbench.training import Evaluation, TrainTask
from gptbench.worker.checkpoint import State

# What another name in the checkpoint's JSON would be: an older training does not go on.
FORMAT = 3


@dataclass(slots=True, kw_only=True)
class History:
    """What has happened so far. It grows as the training goes on, and outlives its processes."""

    step: int = 0
    train_ns: int = 0
    warm_ns: int = 0
    warm_steps: int = 0
    loader_ns: int = 0
    wall_ns: int = 0
    losses: list[float] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    resumed_at: list[int] = field(default_factory=list)
    solved_before: float | None = None
    peak_memory_bytes: int | None = None


def state_of(
    task: TrainTask,
    history: History,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    device: torch.device,
) -> State:
    """All that the next step depends on but for the weights, and what has happened."""
    tensors = {"random.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in moments.items()}
    happened = to_builtins(history)
    tensors["losses"] = torch.tensor(happened.pop("losses"), dtype=torch.float64)
    return State(
        tensors=tensors,
        facts={
            "format": FORMAT,
            "asked": asked(task),
            "threads": torch.get_num_threads(),
            "scaler": scaler.state_dict(),
            "history": happened,
        },
    )


def restore(
    state: State,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    device: torch.device,
    place: str,
) -> History:
    """Put everything back to where it was; the history until then.

    Raises QuestionError where the state in `place` is not whole.
    """
    try:
        return _restored(state, optimizer, scaler, device)
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise _damaged(place) from error


def _damaged(place: str) -> QuestionError:
    return QuestionError(
        f"the state of the training in '{place}' is damaged, so nothing goes on there. Take an "
        "earlier copy, or begin again in another --out."
    )


def _restored(
    state: State,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    device: torch.device,
) -> History:
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in state.tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimizer":
            index, _, moment = rest.partition(".")
            moments.setdefault(int(index), {})[moment] = tensor
    _require_sizes(moments, optimizer)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    scaler.load_state_dict(state.facts["scaler"])
    torch.set_rng_state(state.tensors["random.cpu"])
    # Sums of so many parts, whatever cores there are now: others round otherwise.
    torch.set_num_threads(state.facts["threads"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state.tensors["random.cuda"], device)
    happened = {**state.facts["history"], "losses": state.tensors["losses"].tolist()}
    return from_builtins(happened, History)


def _require_sizes(
    moments: Mapping[int, Mapping[str, Tensor]], optimizer: torch.optim.Optimizer
) -> None:
    """Raise ValueError where moments are not as large as their parameters: no one else looks."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, found in moments.items():
        if any(found[name].shape != parameters[index].shape for name in ("exp_avg", "exp_avg_sq")):
            raise ValueError(index)


def asked(task: TrainTask) -> dict[str, Any]:
    """What a training must have in common with the one that it goes on from, by its option."""
    work, recipe = task.workload, task.recipe
    facts = {
        # Vocabulary and context of the model follow from these.
        "--data or --tokenizer": task.corpus.key,
        "--seq-len": work.seq_len,
        "MODEL": to_builtins(task.model),
        "--batch-size": work.batch_size,
        "--grad-accum": work.grad_accum,
        "--dtype": work.matmul_dtype,
        "--attention": work.attention,
        "--recompute": work.recompute,
        "--compile": work.compile,
        "--device": task.device,
        "--eval-batches": task.eval_batches,
        **{f"--{name.replace('_', '-')}": value for name, value in to_builtins(recipe).items()},
    }
    # As it reads again: JSON has no tuples.
    found: dict[str, Any] = json.loads(dump_json(facts))
    return found


def require_same(task: TrainTask, facts: Mapping[str, Any], place: str) -> None:
    """Raise QuestionError for the first option that the training in `place` had otherwise."""
    if facts.get("format") != FORMAT:
        raise QuestionError(f"the training in '{place}' is of another version of gptbench.")
    before = facts.get("asked")
    if not isinstance(before, dict):
        raise _damaged(place)
    for option, value in asked(task).items():
        if before.get(option) != value:
            plain = not isinstance(value, dict) and "or" not in option.split()
            was = f" was {before.get(option)} and is {value}" if plain else " is another"
            raise QuestionError(
                f"the training in '{place}' goes on only as it began: {option}{was}. Type what it "
                "was, or another --out without --resume."
            )
