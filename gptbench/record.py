"""What was asked, of which machine, and the raw nanoseconds: the file that outlives the run.

A Record holds facts only. Tokens/s, MFU and every other derived number are computed from it by
`metrics` whenever it is read, so that a corrected peak or formula repairs old records; the JSON
file carries them too, for readers who have no gptbench.

Schema history: 1 (gptbench 0.1.0) the first; batch_search.multiple and .curve came later, and where
they are missing the multiple is 1 and no curve was measured; so did device.achievable_source.
"""

import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from gptbench.config import ModelConfig, Workload
from gptbench.errors import QuestionError, UnavailableError
from gptbench.inputs import Input

SCHEMA_VERSION = 1

MAX_RECORD_BYTES = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectTask:
    """Asks a worker what device there is, and on a CPU for the peak of products in `peak_dtype`.

    `device` is 'auto' for a GPU where there is one and the CPU elsewhere.
    """

    device: Literal["auto", "cuda", "cpu"] = "auto"
    peak_dtype: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Detected:
    """The device a worker found, in its driver's words."""

    kind: Literal["cuda", "cpu"]
    name: str
    units: int | None
    memory_bytes: int
    free_bytes: int
    has_bfloat16: bool
    has_float16: bool
    has_tf32: bool = False
    uuid: str | None = None
    power_limit_w: float | None = None
    others: tuple[str, ...] = ()  # other processes on the device, with what they hold
    matmul_flops_per_s: float | None = None
    matmul_shape: str = ""
    environment: dict[str, str | int | float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureTask:
    """Asks a worker to run steps and time them; a probe of the batch search is a short one.

    `steps` None: as many as fill `window_s`, at least `min_steps`. `data` None: the Python
    standard library's own source. `memory_limit_bytes` is a real limit on what the process may
    allocate from then on. `prime` puts one step of a single sequence in front of everything, after
    which the optimizer's state is in place: what does not fit then fails in its first step.
    """

    model: ModelConfig
    workload: Workload
    device: Literal["cuda", "cpu"]
    warmup_steps: int
    warmup_s: float
    steps: int | None
    min_steps: int
    window_s: float
    data: str | None
    memory_limit_bytes: int | None
    prime: bool = False
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckTask:
    """Asks a worker to count the FLOPs of a model on the meta device with other people's tools."""

    model: ModelConfig
    workload: Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorCount:
    """What one operator counted for, and what the ledger says it should have."""

    operator: str
    flops: int
    expected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One tool's count of one pass, held to the ledger's."""

    tool: str
    attention: str
    direction: Literal["forward", "backward", "backward and recompute"]
    flops: int
    expected: int
    operators: tuple[OperatorCount, ...]

    @property
    def difference(self) -> int:
        return self.flops - self.expected


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceTask:
    """Asks a worker to trace someone's module on the meta device, where tensors have no numbers.

    `target` is 'module:factory' or 'path/to/file.py:factory'. The first of `inputs` is the first
    argument of the model, the others are arguments by name.
    """

    target: str
    inputs: tuple[Input, ...]
    mode: Literal["train", "forward"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedModule:
    """A module and everything beneath it, in FLOPs; `path` is '' for the model itself.

    `parameters` are those not counted in an earlier module already: a matrix that two modules
    share belongs to the first. `calls` are of the forward pass; recomputation adds none.
    """

    path: str
    class_name: str
    calls: int
    parameters: int
    forward: int
    backward: int
    recompute: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedOperator:
    """An operator that costs FLOPs, over the whole model."""

    operator: str
    calls: int
    forward: int
    backward: int
    recompute: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncounted:
    """An operator that may cost FLOPs that nobody knows how to count, and where it was called."""

    operator: str
    calls: int
    modules: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """A worker's answer to a TraceTask: what every operator of a step cost, by module.

    `modules` begins with the model itself and goes on in the order of `named_modules`. `inputs`
    are the task's and those that were added. `tokens` is None where the first input is no ids.
    `notes` are sentences about what was done that was not asked for.
    """

    target: str
    mode: Literal["train", "forward"]
    inputs: tuple[Input, ...]
    tokens: int | None
    parameters: int
    trainable: int
    modules: tuple[TracedModule, ...]
    operators: tuple[TracedOperator, ...]
    uncounted: tuple[Uncounted, ...]
    notes: tuple[str, ...]

    @property
    def total(self) -> TracedModule:
        """The model itself: its FLOPs are those of everything."""
        return self.modules[0]

    @property
    def step(self) -> int:
        """Model FLOPs of one step: nothing that is computed twice."""
        return self.total.forward + self.total.backward


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUsed:
    """The device that ran, as its driver reports it, and the peak it was judged by.

    `peak_origin`: 'table' (row `id` of presets/devices.csv), 'stated' by the user, 'measured' on
    the device itself, or 'unknown'; then `peak_flops_per_s` is None and `peak_source` says why.
    `achievable_flops_per_s` is the best rate of products measured there, `achievable_source` of
    which and when, or why there is none.
    """

    kind: Literal["cuda", "cpu"]
    name: str
    id: str | None
    memory_bytes: int
    peak_flops_per_s: float | None
    peak_source: str
    peak_origin: Literal["table", "stated", "measured", "unknown"]
    peak_dtype: str
    boosts: bool = False
    achievable_flops_per_s: float | None = None
    achievable_source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One window of steps in one process, in nanoseconds as the clock gave them.

    `window_ns` is the wall time of the whole window, from before the first of `step_ns` to after
    the last. `warmup_ns` came before it; its first entry is the first step, compilation included.
    `peak_memory_bytes` is what the caching allocator held (CUDA) or what the process held above
    its start-up size (CPU); None where the system does not tell.
    """

    step_ns: tuple[int, ...]
    window_ns: int
    warmup_ns: tuple[int, ...]
    peak_memory_bytes: int | None
    first_loss: float
    last_loss: float
    stop: str

    def __post_init__(self) -> None:
        if not self.step_ns or min(self.step_ns) < 1 or self.window_ns < 1:
            # A ValueError, to which msgspec adds the path in the file that is read.
            raise ValueError("a measurement has at least one step, and every step takes time")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A worker's answer to a MeasureTask: the window, and what surrounded it."""

    measurement: Measurement
    environment: dict[str, str | int | float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One trial of a batch size in a process of its own; `reason` says why it did not fit."""

    batch_size: int
    fits: bool
    peak_memory_bytes: int | None = None
    step_ns: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Steps that one process ran one after another, and the wall time of all of them."""

    steps: int
    window_ns: int

    def __post_init__(self) -> None:
        if self.steps < 1 or self.window_ns < 1:
            raise ValueError("a round has at least one step, and every step takes time")


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """How fast a batch size is: rounds of steps, each in a process of its own, and its memory."""

    batch_size: int
    rounds: tuple[Round, ...]
    peak_memory_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1 or not self.rounds:
            raise ValueError("a point of the curve has a batch size and at least one round")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSearch:
    """The largest batch that trains, with both certificates among the probes.

    `max_batch_size`, a multiple of `multiple`, ran and `max_batch_size + multiple` did not, unless
    `stopped_by` names another end: the largest batch that was asked for. `curve` is there where
    the batch was chosen by its throughput.
    """

    max_batch_size: int
    limit_bytes: int
    limit_source: str
    probes: tuple[Probe, ...]
    stopped_by: Literal["out of memory", "largest asked for"] = "out of memory"
    multiple: int = 1
    curve: tuple[CurvePoint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Everything needed to believe a measurement, or to repeat it."""

    schema_version: int
    gptbench_version: str
    command: str
    started_at: str  # UTC, ISO 8601
    model: ModelConfig
    workload: Workload
    device: DeviceUsed
    measurement: Measurement
    batch_search: BatchSearch | None
    environment: dict[str, str | int | float | None]


def read(path: Path) -> Record:
    """The record of a result.json, or of the folder that holds one.

    Raises QuestionError that names the file and what is wrong.
    """
    path = path / "result.json" if path.is_dir() else path
    try:
        if path.stat().st_size > MAX_RECORD_BYTES:
            raise QuestionError(f"'{path}' is over 1 GiB: no result of gptbench is that large.")
        content = path.read_bytes()
    except OSError as error:
        raise QuestionError(f"cannot read the result '{path}': {error.strerror}.") from error
    try:
        document = json.loads(content, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise QuestionError(f"'{path}' is not JSON: {error}.") from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version is None:
        raise QuestionError(f"'{path}' is no result of gptbench: it has no schema_version.")
    if version != SCHEMA_VERSION:
        raise QuestionError(
            f"'{path}' has schema_version {version!r}; this gptbench reads {SCHEMA_VERSION}. "
            "Update gptbench, or measure again."
        )
    try:
        return msgspec.convert(document, Record)
    except (msgspec.ValidationError, QuestionError) as error:
        raise QuestionError(f"'{path}': {str(error).rstrip('.')}.") from error


def _no_number(text: str) -> float:
    """Refuse NaN and Infinity, which Python reads and JSON does not know."""
    raise ValueError(f"{text} is not a JSON number")


def check_document(check: Check) -> dict[str, Any]:
    """A check under the keys that `gptbench flops --check --format json` publishes."""
    operators = [{**to_builtins(o), "difference": o.flops - o.expected} for o in check.operators]
    return {**to_builtins(check), "difference": check.difference, "operators": operators}


def trace_document(traced: Traced) -> dict[str, Any]:
    """A trace under the keys that `gptbench flops module:factory --format json` publishes."""
    total = traced.total
    return {
        "model": {"name": traced.target, "class": total.class_name},
        "workload": {"mode": traced.mode, "inputs": to_builtins(traced.inputs)},
        "parameters": {"total": traced.parameters, "trainable": traced.trainable},
        "flops": {
            "forward": total.forward,
            "backward": total.backward,
            "recompute": total.recompute,
            "step": traced.step,
            "per_token": traced.step / traced.tokens if traced.tokens else None,
        },
        "modules": [
            {
                "class" if key == "class_name" else key: value
                for key, value in to_builtins(m).items()
            }
            for m in traced.modules
        ],
        "operators": [
            {**to_builtins(o), "flops": o.forward + o.backward + o.recompute}
            for o in traced.operators
        ],
        "uncounted": to_builtins(traced.uncounted),
        "notes": list(traced.notes),
    }


def to_builtins(value: Any) -> Any:
    """A dataclass as plain dicts, lists and scalars, in the order of its fields."""
    return msgspec.to_builtins(value)


def dump_json(document: Any) -> str:
    """The text of a JSON answer: two spaces, keys in the order given, no NaN, one last newline."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all: a temporary one beside it, synced, then renamed.

    Raises UnavailableError with the system's reason (no space left, permission denied).
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise UnavailableError(f"cannot write '{path}': {error.strerror}.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def output_folder(path: Path) -> Path:
    """The folder for results, made and proven writable before anything is measured.

    Raises QuestionError where it cannot be one.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise QuestionError(f"--out '{path}' cannot be written to: {error.strerror}.") from error
    return path
