"""The main job: a question about a model on this machine, answered by a record.

What can be refused is refused before the first worker starts; then the device is detected, its
peak found, the choices that the person left open made, the batch searched, the window run.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from gptbench import (
    __version__,
    advice,
    batch,
    calibrate,
    curve,
    device,
    memory,
    metrics,
    models,
    runner,
)
from gptbench.config import (
    Attention,
    Dtype,
    Mode,
    ModelConfig,
    Recompute,
    Workload,
    check_fits_context,
    parse_dtype,
)
from gptbench.device import Device
from gptbench.errors import OutOfMemoryError, QuestionError, UnavailableError
from gptbench.process import Progress
from gptbench.record import (
    SCHEMA_VERSION,
    BatchSearch,
    Detected,
    DetectTask,
    DeviceUsed,
    Measured,
    MeasureTask,
    Record,
)
from gptbench.runner import Measurer
from gptbench.trials import Trials
from gptbench.units import gib, parse_bytes, parse_flops_per_s

# Tokens a step on a CPU, where larger batches are no faster and a person waits.
CPU_TOKENS = 1024

# The largest batch that is chosen without a search, and the share of memory it may take.
CHOSEN_BATCH = 64
CHOSEN_SHARE = 0.6

# Over a long window the heap of small objects grows by a few MiB; the trials were shorter.
WINDOW_SLACK_BYTES = 32 << 20

# Left to the rest of a machine whose memory is searched without a limit.
HOST_RESERVE = 0.05

# A GPU's clock climbs for seconds under load before it settles; a CPU's does not.
WARMUP = {"cuda": (10, 3.0), "cpu": (3, 0.0)}
WINDOW_S = {"cuda": 10.0, "cpu": 12.0}
MIN_STEPS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a person typed; None where the choice is left to gptbench."""

    command: str
    model: str | None = None
    gpu: str | None = None
    device: Literal["auto", "cuda", "cpu"] = "auto"
    auto_batch: Literal["largest", "throughput"] | None = None
    batch_multiple: int = 1
    max_batch_size: int | None = None
    batch_size: int | None = None
    seq_len: int | None = None
    mode: Mode = "train"
    dtype: str | None = None
    pure: bool = False
    tf32: bool = False
    attention: Attention = "fused"
    recompute: Recompute = "none"
    grad_accum: int = 1
    compile: bool = False
    steps: int | None = None
    memory_limit: str | None = None
    data: Path | None = None
    peak: str | None = None
    devices: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A question whose every word has been read and found possible."""

    model: ModelConfig | None
    dtype: Dtype | None
    wanted: tuple[Device, ...]
    table: tuple[Device, ...]
    memory_limit_bytes: int | None
    stated_peak: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be run, with every choice made but, where it is searched, the batch size."""

    question: Question
    detected: Detected
    model: ModelConfig
    work: Workload
    memory_limit_bytes: int | None


@dataclass(frozen=True, slots=True)
class Ready:
    """A plan whose batch is found, what is measured by, and what the process may take."""

    plan: Plan
    started_at: str
    used: DeviceUsed
    search: BatchSearch | None
    limit_bytes: int | None


def run(question: Question, progress: Progress) -> Record:
    """Answer the question. Raises QuestionError and UnavailableError as DESIGN's exit codes say."""
    ready = prepare(question, progress)
    measured = _measure(ready.plan, ready.limit_bytes, progress)
    return Record(
        schema_version=SCHEMA_VERSION,
        gptbench_version=__version__,
        command=question.command,
        started_at=ready.started_at,
        model=ready.plan.model,
        workload=ready.plan.work,
        device=ready.used,
        measurement=measured.measurement,
        batch_search=ready.search,
        environment=measured.environment,
    )


def prepare(question: Question, progress: Progress) -> Ready:
    """Everything that comes before the window. Raises what `run` raises."""
    asked = read(question)
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    detected = _detect(question, asked, progress)
    model = asked.model or _suitable_model(detected)
    work = _workload(question, asked, model, detected)
    used = judged_by(question, asked, detected, work)
    used = _with_achievable(question, detected, used, progress)
    plan = Plan(question, detected, model, work, asked.memory_limit_bytes)
    found, limit_bytes = None, asked.memory_limit_bytes
    if question.auto_batch:
        found = _search(plan, _limit(plan), progress)
        limit_bytes = _with_slack(found.limit_bytes)
        size = curve.chosen(found.curve) if found.curve else found.max_batch_size
        plan = replace(plan, work=work.with_batch(size))
    return Ready(plan, started_at, used, found, limit_bytes)


def read(question: Question) -> _Asked:
    """Everything about the question that can be refused without looking at the machine."""
    table = device.table(question.devices)
    model = models.load(question.model) if question.model else None
    _check_batches(question)
    dtype = parse_dtype(question.dtype) if question.dtype else None
    if question.pure and dtype == "float32":
        raise QuestionError("--pure stores weights below float32. Type --dtype bfloat16 with it.")
    if question.tf32 and dtype not in (None, "float32"):
        raise QuestionError(
            f"--tf32 multiplies float32 numbers, but --dtype is {question.dtype!r}. "
            "Type --dtype float32, or leave --tf32 out."
        )
    if question.seq_len is not None and model is not None:
        check_fits_context(model, Workload(batch_size=1, seq_len=question.seq_len))
    if question.gpu is not None and question.device == "cpu":
        raise QuestionError(f"--gpu {question.gpu!r} and --device cpu contradict each other.")
    if question.data is not None and not question.data.is_file():
        raise QuestionError(f"--data '{question.data}' is no file. Type the path of a text file.")
    stated = question.peak not in (None, "none")
    return _Asked(
        model=model,
        dtype=dtype,
        wanted=device.find(question.gpu, table) if question.gpu else (),
        table=table,
        memory_limit_bytes=parse_bytes(question.memory_limit) if question.memory_limit else None,
        stated_peak=parse_flops_per_s(question.peak) if question.peak and stated else None,
    )


def _check_batches(question: Question) -> None:
    """Raise QuestionError where what is said about the batch cannot all be true."""
    multiple, most = question.batch_multiple, question.max_batch_size
    if question.auto_batch and question.batch_size is not None:
        raise QuestionError(
            f"--batch-size {question.batch_size} and --auto-batch contradict each other. "
            "Type one of them."
        )
    for option, value, default in (
        ("--batch-multiple", multiple, 1),
        ("--max-batch-size", most, None),
    ):
        if value != default and not question.auto_batch:
            raise QuestionError(f"{option} {value} is for a search. Type --auto-batch with it.")
    if most is not None and most < multiple:
        raise QuestionError(
            f"no multiple of --batch-multiple {multiple} is within --max-batch-size {most}."
        )


def _detect(question: Question, asked: _Asked, progress: Progress) -> Detected:
    dtype = "tf32" if question.tf32 else asked.dtype or "float32"
    peak_dtype = None if question.peak else dtype
    try:
        wanted = "cuda" if question.gpu else question.device
        return runner.detect(DetectTask(device=wanted, peak_dtype=peak_dtype), progress)
    except UnavailableError as error:
        if question.gpu is None:
            raise
        raise UnavailableError(
            f"--gpu {question.gpu!r} cannot be measured: {error} Leave --gpu out to measure on "
            f"the CPU, or type 'gptbench gpus {question.gpu}' for its peaks."
        ) from error


def _suitable_model(detected: Detected) -> ModelConfig:
    small = detected.kind == "cpu" or detected.memory_bytes < 8e9
    return models.load("scratchgpt" if small else "gpt2-small")


def _workload(
    question: Question, asked: _Asked, model: ModelConfig, detected: Detected
) -> Workload:
    dtype = asked.dtype or _suitable_dtype(question, detected)
    work = Workload(
        batch_size=question.batch_size or 1,
        seq_len=question.seq_len or model.n_ctx,
        mode=question.mode,
        dtype=dtype,
        autocast=dtype != "float32" and not question.pure,
        tf32=question.tf32,
        attention=question.attention,
        recompute=question.recompute,
        grad_accum=question.grad_accum,
        compile=question.compile,
    )
    check_fits_context(model, work)
    if question.batch_size is None and not question.auto_batch:
        return work.with_batch(_suitable_batch(asked, model, work, detected))
    return work


def _suitable_dtype(question: Question, detected: Detected) -> Dtype:
    """The fastest number format that the device multiplies in hardware and that trains."""
    if question.tf32 or not detected.has_float16:
        return "float32"
    return "bfloat16" if detected.has_bfloat16 else "float16"


def _suitable_batch(asked: _Asked, model: ModelConfig, work: Workload, detected: Detected) -> int:
    if detected.kind == "cpu":
        return max(1, CPU_TOKENS // work.seq_len)
    room = CHOSEN_SHARE * (asked.memory_limit_bytes or detected.free_bytes)
    size, kernels = CHOSEN_BATCH, memory.Setup(kind=detected.kind)
    while size > 1 and memory.footprint(model, work.with_batch(size), kernels).total > room:
        size //= 2
    return size


def judged_by(question: Question, asked: _Asked, detected: Detected, work: Workload) -> DeviceUsed:
    """The device that runs, with the peak its MFU is judged by.

    Raises UnavailableError for a GPU that is not in the table or not the one asked for, and
    QuestionError for a dtype that it has no peak for.
    """
    row = device.match(detected.name, detected.units, asked.table)
    dtype = work.matmul_dtype
    used = DeviceUsed(
        kind=detected.kind,
        name=detected.name,
        id=row.id if row else None,
        memory_bytes=detected.memory_bytes,
        peak_flops_per_s=None,
        peak_source="--peak none was asked for",
        peak_origin="unknown",
        peak_dtype=dtype,
        boosts=row.boosts if row else False,
    )
    if asked.wanted and row not in asked.wanted:
        known = f" ({row.id})" if row else ""
        instead = f", or type --gpu {row.id}" if row else ""
        raise UnavailableError(
            f"the GPU here is {detected.name!r}{known}, not {question.gpu!r}. "
            f"Leave --gpu out{instead}."
        )
    if question.peak == "none":
        return used
    if asked.stated_peak is not None:
        return replace(
            used,
            peak_flops_per_s=asked.stated_peak,
            peak_source=f"stated: --peak {question.peak}",
            peak_origin="stated",
        )
    if detected.kind == "cpu":
        return replace(
            used,
            peak_flops_per_s=detected.matmul_flops_per_s,
            peak_source=f"measured here: {detected.matmul_shape} {dtype} matrix products",
            peak_origin="measured",
            achievable_flops_per_s=detected.matmul_flops_per_s,
            achievable_source=f"{dtype} matrix product {detected.matmul_shape}, beside this run",
        )
    if row is None:
        raise UnavailableError(
            f"{detected.name!r} is not in the peak table, so there is no MFU. Type --peak "
            "125TFLOP/s with its dense peak, --peak none to go without, or add a row with "
            "--devices FILE.csv."
        )
    if dtype not in row.peaks:
        known_peaks = ", ".join(d for d in row.peaks if d in ("float32", "float16", "bfloat16"))
        raise QuestionError(
            f"{row.name} has no known {dtype} peak. Type --dtype with one of: {known_peaks}; "
            f"or --peak with the rate it reaches. {row.note}".rstrip()
        )
    return metrics.judged_by_table(used, row)


def _with_achievable(
    question: Question, detected: Detected, used: DeviceUsed, progress: Progress
) -> DeviceUsed:
    """The device with the rate that its products reach; a CPU's is measured with each run."""
    if detected.kind == "cpu" or question.peak == "none":
        return used
    found = calibrate.achievable(detected, used.peak_dtype, progress)
    return replace(used, achievable_flops_per_s=found.flops_per_s, achievable_source=found.source)


def _search(plan: Plan, limit: batch.Limit, progress: Progress) -> BatchSearch:
    """The largest batch of the plan's workload within the limit, and if asked for the curve."""
    question = plan.question
    # On a CPU steps are long, and a first one of a single sequence is nothing: what does not fit
    # then fails sooner. Compiled code is made for one batch size.
    prime = plan.detected.kind == "cpu" and not question.compile
    task = replace(measure_task(plan, limit.size_bytes), prime=prime)
    prior = memory.affine(plan.model, plan.work, memory.Setup(kind=plan.detected.kind))
    with Measurer() as measurer:
        trials = Trials(task, measurer, progress)
        largest = question.max_batch_size or batch.LARGEST
        try:
            found = batch.search(trials.probe, limit, prior, largest, question.batch_multiple)
        except OutOfMemoryError as error:
            least = plan.work.with_batch(question.batch_multiple)
            would = advice.what_would_fit(_case(plan, least), limit.size_bytes)
            raise OutOfMemoryError(f"{error} {would}") from error
        if question.auto_batch != "throughput":
            return found
        sizes = curve.candidates(found.max_batch_size, question.batch_multiple)
        # Over a longer window the heap grows a little, as in the window of the result.
        trials.task = replace(task, memory_limit_bytes=_with_slack(limit.size_bytes))
        return replace(found, curve=curve.measured(sizes, trials.round))


def _case(plan: Plan, work: Workload) -> memory.Case:
    """The workload as memory predicts it, by the kernels of the device that runs it."""
    return memory.Case(plan.model, work, memory.Setup(kind=plan.detected.kind))


def _with_slack(limit_bytes: int) -> int:
    """What a window may take that follows a search within the limit."""
    return limit_bytes + max(WINDOW_SLACK_BYTES, limit_bytes // 20)


def _limit(plan: Plan) -> batch.Limit:
    """What a step may take: what the person states, and no more than what is free."""
    here = plan.detected
    free = here.free_bytes
    if here.kind == "cuda":
        others = f", where {'; '.join(here.others)}" if here.others else ""
        room = batch.Limit(free, f"free of the {gib(here.memory_bytes)} of {here.name}{others}")
    else:
        room = batch.Limit(int(free * (1 - HOST_RESERVE)), f"95% of the {gib(free)} that are free")
    stated = plan.memory_limit_bytes
    if stated is None:
        return room
    words = f"--memory-limit {plan.question.memory_limit}"
    if stated > room.size_bytes:
        return replace(room, source=f"{room.source}; {words} is more")
    return batch.Limit(stated, words)


def measure_task(plan: Plan, limit_bytes: int | None) -> MeasureTask:
    """What a worker is asked for to measure the plan."""
    question, kind = plan.question, plan.detected.kind
    warmup_steps, warmup_s = WARMUP[kind]
    return MeasureTask(
        model=plan.model,
        workload=plan.work,
        device=kind,
        warmup_steps=warmup_steps,
        warmup_s=warmup_s,
        steps=question.steps,
        min_steps=MIN_STEPS,
        window_s=WINDOW_S[kind],
        data=str(question.data.resolve()) if question.data else None,
        memory_limit_bytes=limit_bytes,
    )


def refuse_hopeless(plan: Plan) -> None:
    """Raise OutOfMemoryError where weights and what trains them are more than all the memory.

    A CPU without a limit does not refuse an allocation: the kernel kills, and not always us.
    """
    case, memory_bytes = _case(plan, plan.work), plan.detected.memory_bytes
    found = case.footprint
    kept = found.parameters + found.gradients + found.optimizer
    if plan.detected.kind == "cpu" and kept > memory_bytes:
        would = advice.what_would_fit(case, memory_bytes)
        raise OutOfMemoryError(
            f"{plan.model.name!r} keeps {gib(kept)} whatever the batch, and this machine has "
            f"{gib(memory_bytes)}. {would}"
        )


def _measure(plan: Plan, limit_bytes: int | None, progress: Progress) -> Measured:
    refuse_hopeless(plan)
    try:
        return runner.measure(measure_task(plan, limit_bytes), progress)
    except OutOfMemoryError as error:
        raise does_not_fit(plan, limit_bytes, error) from error


def does_not_fit(plan: Plan, limit_bytes: int | None, error: OutOfMemoryError) -> OutOfMemoryError:
    """The error for a person: what is needed, and what would fit."""
    work, case = plan.work, _case(plan, plan.work)
    allowed = f" into {gib(limit_bytes)}" if limit_bytes else ""
    return OutOfMemoryError(
        f"batch {work.batch_size} × {work.seq_len} tokens does not fit{allowed}: about "
        f"{gib(case.footprint.total)} are needed ({error}). "
        "Type --auto-batch for the largest that fits. "
        f"{advice.what_would_fit(case, limit_bytes or plan.detected.free_bytes)}"
    )
