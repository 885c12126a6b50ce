"""What was asked, of which machine, and the raw nanoseconds: the file that outlives the run.

A Record holds facts only. Tokens/s, MFU and every other derived number are computed from it by
`metrics` whenever it is read, so that a corrected peak or formula repairs old records; the JSON
file carries them too, for readers who have no gptbench.

`upgrades` has the history of the schema, and reads the older versions.
"""

import json
import os
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from gptbench import upgrades
from gptbench.config import Model, ModelConfig, Workload
from gptbench.errors import QuestionError, UnavailableError, UnknownSchemaError
from gptbench.inputs import Input
from gptbench.own import OwnModule
from gptbench.telemetry import Telemetry

Value = TypeVar("Value")
Kind = Literal["cuda", "cpu"]
Ending = Literal["converged", "plateau", "budget", "steps", "steps asked for", "window filled"]

SCHEMA_VERSION = upgrades.SCHEMA_VERSION

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

    `steps` None: as many as the median needs to be known to `precision`, or where that is None as
    fill `window_s`, which bounds both; at least `min_steps`. Warm-up has at least `warmup_steps`
    and `warmup_s`, and until `warmup_max_s` goes on while steps still change. `data` None: the
    Python standard library's own source. `memory_limit_bytes` is a real limit on what the process
    may allocate from then on. `prime` puts one step of a single sequence in front of everything,
    after which the optimizer's state is in place: what does not fit then fails in its first step.
    The device is looked at every `sample_period_s`; None: a trial, of which no telemetry is kept.
    """

    model: Model
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
    precision: float | None = None
    min_s: float = 0.0
    warmup_max_s: float = 0.0
    sample_period_s: float | None = None

    def with_batch(self, batch_size: int) -> "MeasureTask":
        """The same of another batch size."""
        model, work = self.model.with_batch(batch_size), self.workload.with_batch(batch_size)
        return replace(self, model=model, workload=work)


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
    """Asks a worker to trace someone's module, on the meta device where tensors have no numbers.

    `target` is 'module:factory' or 'path/to/file.py:factory'. The first of `inputs` is the first
    argument of the model, the others are arguments by name.
    """

    target: str
    inputs: tuple[Input, ...]
    mode: Literal["train", "forward"]
    device: Literal["meta", "cuda", "cpu"] = "meta"


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
    are the task's, with what integers are drawn below. `tokens` is None where the first input is
    no ids. `loss` says what the step ended in; empty where it had no loss. `notes` are sentences
    about what was done that was not asked for.
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
    loss: str = ""

    @property
    def total(self) -> TracedModule:
        """The model itself: its FLOPs are those of everything."""
        return self.modules[0]

    @property
    def step(self) -> int:
        """Model FLOPs of one step: nothing that is computed twice."""
        return self.total.forward + self.total.backward


@dataclass(frozen=True, slots=True, kw_only=True)
class FootprintTask:
    """Asks a worker what a step of someone's module holds, on tensors without numbers.

    The step is seen with each of `batch_sizes`, and where there is a limit with those that find
    the largest that stays within it.
    """

    model: OwnModule
    workload: Workload
    device: Kind
    batch_sizes: tuple[int, ...]
    limit_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedFootprint:
    """Bytes that a step holds at one batch size; `peak_bytes` is the most at any one moment.

    `activations` are what autograd keeps of the forward pass, `inputs` those of one batch, and
    `peak_at` is the operator that reaches the peak.
    """

    batch_size: int
    parameters: int
    buffers: int
    gradients: int
    optimizer: int
    activations: int
    inputs: int
    peak_bytes: int
    peak_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedFootprints:
    """A worker's answer to a FootprintTask: by batch size, and the largest batch within the limit.

    `largest_batch` is 0 where not even one row fits, and None where there was no limit. `kernels`
    are those of a CPU too where CUDA was asked for and is not there.
    """

    kernels: Kind
    at: tuple[TracedFootprint, ...]
    largest_batch: int | None


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
    the last. Where the times were looked at to know whether they are enough, the window is several
    contiguous runs of `run_steps` steps, and the `looks_ns` between them are in no number.
    `handed_ns` is when the host had given each step to a GPU, from the beginning of its run.
    `warmup_ns` came before; its first entry is the first step, compilation included. Building the
    model took `build_ns`; of the warm-up torch.compile itself took `compile_ns`. `recompiled`
    counts what it compiled inside of the window.
    `stop` says what ended the window: 'converged' to `precision_asked`, 'plateau' where more steps
    no longer help, 'budget' of time, 'steps' where there are as many as are ever timed, 'steps
    asked for', or 'window filled' by a fixed time. `throttled_windows` came before it, and are
    among the warm-up, because the device was slowed down in them. `collector_held` is False where
    Python's collector ran, without which the steps' memory is not given back. `warmup_stop`: 'steady', or 'time' that was over.
    `peak_memory_bytes` is what tensors held (CUDA) or what the process held above
    its start-up size (CPU); None where the system does not tell. CUDA's allocator held
    `reserved_memory_bytes` of the device for it, and had to give some back and ask again
    `alloc_retries` times.
    """

    step_ns: tuple[int, ...]
    window_ns: int
    warmup_ns: tuple[int, ...]
    peak_memory_bytes: int | None
    first_loss: float
    last_loss: float
    stop: Ending
    run_steps: tuple[int, ...] = ()
    looks_ns: int = 0
    handed_ns: tuple[int, ...] = ()
    warmup_stop: str = ""
    build_ns: int | None = None
    compile_ns: int | None = None
    recompiled: int | None = None
    precision_asked: float | None = None
    reserved_memory_bytes: int | None = None
    alloc_retries: int = 0
    throttled_windows: int = 0
    collector_held: bool | None = None

    def __post_init__(self) -> None:
        if not self.step_ns or min(self.step_ns) < 1 or self.window_ns < 1:
            # A ValueError, to which msgspec adds the path in the file that is read.
            raise ValueError("a measurement has at least one step, and every step takes time")
        if self.run_steps and sum(self.run_steps) != len(self.step_ns):
            raise ValueError("the runs of a measurement have all of its steps")
        if self.handed_ns and len(self.handed_ns) != len(self.step_ns):
            raise ValueError("every step of a measurement was handed over, or none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A worker's answer to a MeasureTask: the window, and what surrounded it."""

    measurement: Measurement
    environment: dict[str, str | int | float | None]
    telemetry: Telemetry | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One trial of a batch size in a process of its own; `reason` says why it did not fit.

    A trial that `hung` was ended, and counts as not fitting.
    """

    batch_size: int
    fits: bool
    peak_memory_bytes: int | None = None
    step_ns: int | None = None
    reason: str | None = None
    reserved_memory_bytes: int | None = None
    hung: bool = False

    @property
    def held_bytes(self) -> int | None:
        """What the device held: on CUDA the allocator's segments, more than its tensors."""
        return self.reserved_memory_bytes or self.peak_memory_bytes


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
    `stopped_by` names another end: the largest batch that was asked for, or that the trial of the
    next one hung. `curve` is there where
    the batch was chosen by its throughput.
    """

    max_batch_size: int
    limit_bytes: int
    limit_source: str
    probes: tuple[Probe, ...]
    stopped_by: Literal["out of memory", "largest asked for", "hung"] = "out of memory"
    multiple: int = 1
    curve: tuple[CurvePoint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Everything needed to believe a measurement, or to repeat it.

    `traced` is there where the model is someone's own module: what a step of it costs, at the
    batch size of `workload`, whose `seq_len` then are the tokens of a row, or 1.
    """

    schema_version: int
    gptbench_version: str
    command: str
    started_at: str  # UTC, ISO 8601
    model: Model
    workload: Workload
    device: DeviceUsed
    measurement: Measurement
    batch_search: BatchSearch | None
    environment: dict[str, str | int | float | None]
    telemetry: Telemetry | None = None
    traced: Traced | None = None

    def __post_init__(self) -> None:
        if isinstance(self.model, OwnModule) is (self.traced is None):
            raise ValueError(
                "a module of one's own has what was traced of it, and nothing else has"
            )


AnyRecord = TypeVar("AnyRecord", bound=Record)


def read(path: Path) -> Record:
    """The record of a result.json, or of the folder that holds one.

    Raises QuestionError that names the file and what is wrong, UnknownSchemaError if its version.
    """
    return read_as(Record, path)


def read_as(kind: type[AnyRecord], path: Path) -> AnyRecord:
    """What a result.json holds, as a record or as a kind of record that has more.

    Raises QuestionError that names the file and what is wrong, UnknownSchemaError if its version.
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
    if not isinstance(document, dict) or document.get("schema_version") is None:
        raise QuestionError(f"'{path}' is no result of gptbench: it has no schema_version.")
    try:
        document = upgrades.upgraded(document)
    except UnknownSchemaError as error:
        raise UnknownSchemaError(f"'{path}' {error}") from error
    try:
        return from_builtins(document, kind)
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


def footprint_document(
    module: OwnModule, work: Workload, held: TracedFootprint, largest_batch: int | None
) -> dict[str, Any]:
    """What a traced step holds, under the keys of `gptbench memory --format json`, in bytes."""
    return {
        "model": to_builtins(module),
        "workload": {**to_builtins(work), "tokens": work.tokens},
        "memory": {
            "parameters": held.parameters,
            "buffers": held.buffers,
            "gradients": held.gradients,
            "optimizer": held.optimizer,
            "activations": held.activations,
            "inputs": held.inputs,
            "total": held.peak_bytes,
        },
        "peak": held.peak_at,
        "largest_batch": largest_batch,
    }


def from_builtins(value: Any, kind: type[Value]) -> Value:
    """A dataclass of plain dicts, lists and scalars.

    Raises msgspec.ValidationError with the place of what does not fit, and what the dataclass
    itself raises.
    """
    return msgspec.convert(value, kind, dec_hook=_model)


def _model(kind: type[Any], value: Any) -> Any:
    """A model: someone's own module has inputs, and a config has none."""
    if kind is not Model:
        raise NotImplementedError(f"nothing reads a {kind}")
    found: type[Model] = OwnModule if isinstance(value, dict) and "inputs" in value else ModelConfig
    try:
        return msgspec.convert(value, found)
    except msgspec.ValidationError as error:
        # Its place is counted from the model, which every dataclass holds under this name.
        raise msgspec.ValidationError(str(error).replace("`$", "`$.model")) from error


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
