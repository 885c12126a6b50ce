"""The main job: a question about a model on this machine, answered by a record.

What can be refused is refused before the first worker starts; then the device is detected, its
peak found, the choices that the person left open made, the batch searched, the window run.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from gptbench import (
    __version__,
    batch,
    calibrate,
    curve,
    device,
    forecast,
    memory,
    metrics,
    models,
    room,
    runner,
)
from gptbench.config import (
    Dtype,
    Model,
    ModelConfig,
    Workload,
    autocasts,
    check_fits_context,
)
from gptbench.errors import OutOfMemoryError, QuestionError, UnavailableError
from gptbench.forecast import Forecast
from gptbench.own import OwnModule
from gptbench.process import Progress
from gptbench.question import Asked, Question, read
from gptbench.record import BatchSearch, DeviceUsed, Measured, Record
from gptbench.runner import Measurer
from gptbench.tasks import Detected, DetectTask, MeasureTask
from gptbench.trials import Trials
from gptbench.units import gib
from gptbench.upgrades import SCHEMA_VERSION

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
# At least so many steps and seconds, and at most so many seconds until steps are steady.
WARMUP = {"cuda": (10, 3.0, 10.0), "cpu": (3, 0.0, 3.0)}

# A window ends when the median is known this well, after so many seconds at the least and the most.
PRECISION = {"cuda": 0.01, "cpu": 0.02}
MIN_S = {"cuda": 2.0, "cpu": 3.0}
WINDOW_S = {"cuda": 10.0, "cpu": 12.0}
MIN_STEPS = 10

# The device is looked at this often, and less in long windows: so many samples say enough.
SAMPLE_S = 0.1
MOST_SAMPLES = 600


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be run, with every choice made but, where it is searched, the batch size."""

    question: Question
    detected: Detected
    model: Model
    work: Workload
    asked: Asked
    forecast: Forecast


@dataclass(frozen=True, slots=True)
class Ready:
    """A plan whose batch is found, what it is judged by, and what the process may take."""

    plan: Plan
    started_at: str
    used: DeviceUsed
    search: BatchSearch | None
    limit_bytes: int | None


def run(question: Question, progress: Progress) -> Record:
    """Answer the question.

    Raises QuestionError and UnavailableError, whose exit codes are in errors.py.
    """
    ready = prepare(question, progress)
    plan = ready.plan
    measured = _measure(plan, ready.limit_bytes, progress)
    rec = Record(
        schema_version=SCHEMA_VERSION,
        gptbench_version=__version__,
        command=question.command,
        started_at=ready.started_at,
        model=plan.model,
        workload=plan.work,
        device=ready.used,
        measurement=measured.measurement,
        batch_search=ready.search,
        environment=measured.environment,
        telemetry=measured.telemetry,
        traced=plan.forecast.traced(plan.work),
    )
    # Nothing is faster than its own peak: something else ran while that was measured.
    faster = (metrics.derive(rec).mfu or 0.0) > 1
    if faster and ready.used.peak_origin == "measured":
        return replace(rec, device=_measured_again(plan, ready.used, progress))
    return rec


def _measured_again(plan: Plan, used: DeviceUsed, progress: Progress) -> DeviceUsed:
    """The device judged by the better of two measurements of its peak, one after the window."""
    again = detect(plan.question, plan.asked, progress)
    later = judged_by(plan.question, plan.asked, again, plan.work)
    return max(used, later, key=lambda one: one.peak_flops_per_s or 0.0)


def prepare(question: Question, progress: Progress) -> Ready:
    """Everything that comes before the window. Raises what `run` raises."""
    return prepared(question, read(question), progress)


def prepared(question: Question, asked: Asked, progress: Progress) -> Ready:
    """The same of a question that was read already. Raises what `run` raises."""
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    detected = detect(question, asked, progress)
    model, work = settled(question, asked, detected)
    used = judged_by(question, asked, detected, work)
    used = _with_achievable(question, detected, used, progress)
    if work.mode == "decode":
        used = _with_bandwidth(detected, used, progress)
    model, known = forecast.of(
        model, work, room.setup(detected, asked.table), _traced_sizes(question), progress
    )
    plan = Plan(question, detected, model, work, asked, known)
    found, limit_bytes = None, asked.memory_limit_bytes
    if question.auto_batch:
        found = _search(plan, _limit(plan), progress)
        limit_bytes = _of_window(plan, found.limit_bytes)
        size = curve.chosen(found.curve) if found.curve else found.max_batch_size
        plan = replace(plan, model=model.with_batch(size), work=work.with_batch(size))
    return Ready(plan, started_at, used, found, limit_bytes)


def _traced_sizes(question: Question) -> tuple[int, ...]:
    """The batch sizes whose memory is traced before a search for the largest."""
    if not question.auto_batch:
        return ()
    return tuple(question.batch_multiple * size for size in forecast.BATCHES)


def detect(question: Question, asked: Asked, progress: Progress) -> Detected:
    """The device that the question is about. Raises UnavailableError where it is not here."""
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


def settled(question: Question, asked: Asked, detected: Detected) -> tuple[Model, Workload]:
    """The model and the workload, with every choice made that the person left open."""
    model = asked.model or _suitable_model(detected)
    return model, _workload(question, asked, model, detected)


def _suitable_model(detected: Detected) -> ModelConfig:
    small = detected.kind == "cpu" or detected.memory_bytes < 8e9
    return models.load("scratchgpt" if small else "gpt2-small")


def _workload(question: Question, asked: Asked, model: Model, detected: Detected) -> Workload:
    if isinstance(model, OwnModule):
        return _own_workload(question, asked, model, detected)
    if isinstance(model, ModelConfig):
        return _preset_workload(question, asked, model, detected)
    raise QuestionError(f"nothing runs the model {model.name!r}.")


def _own_workload(
    question: Question, asked: Asked, module: OwnModule, detected: Detected
) -> Workload:
    dtype = asked.dtype or _suitable_dtype(question, detected)
    return Workload(
        batch_size=module.batch_size,
        seq_len=module.row_tokens,
        mode=question.mode,
        dtype=dtype,
        autocast=autocasts(question.mode, dtype, question.pure),
        tf32=question.tf32,
        attention="own",
        recompute="own",
        compile=question.compile,
    )


def _preset_workload(
    question: Question, asked: Asked, model: ModelConfig, detected: Detected
) -> Workload:
    dtype = asked.dtype or _suitable_dtype(question, detected)
    work = Workload(
        batch_size=question.batch_size or 1,
        seq_len=question.seq_len or model.n_ctx,
        mode=question.mode,
        dtype=dtype,
        autocast=autocasts(question.mode, dtype, question.pure),
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


def _suitable_batch(asked: Asked, model: ModelConfig, work: Workload, detected: Detected) -> int:
    if detected.kind == "cpu":
        return max(1, CPU_TOKENS // work.seq_len)
    most = CHOSEN_SHARE * (asked.memory_limit_bytes or detected.free_bytes)
    size, kernels = CHOSEN_BATCH, room.setup(detected, asked.table)
    while size > 1 and memory.footprint(model, work.with_batch(size), kernels).total > most:
        size //= 2
    return size


def judged_by(question: Question, asked: Asked, detected: Detected, work: Workload) -> DeviceUsed:
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
        peak_bandwidth_bytes_per_s=row.bandwidth_bytes_per_s if row else None,
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


def _with_bandwidth(detected: Detected, used: DeviceUsed, progress: Progress) -> DeviceUsed:
    """The device with the fastest way over its memory, which decoding is judged by."""
    found = calibrate.bandwidth(detected, progress)
    return replace(
        used,
        bandwidth_bytes_per_s=found.bytes_per_s,
        bandwidth_source=found.source,
        cache_bytes=found.cache_bytes,
    )


def _search(plan: Plan, limit: batch.Limit, progress: Progress) -> BatchSearch:
    """The largest batch of the plan's workload within the limit, and if asked for the curve."""
    question = plan.question
    # After a first step of a single sequence the optimizer's state is in place, and on a GPU the
    # libraries' own memory: what does not fit then fails sooner, and by its tensors. Compiled code
    # is made for one batch size, and of someone's own module nobody knows that it takes one. A cache
    # is of as many sequences as it was made for.
    primed = isinstance(plan.model, ModelConfig) and not question.compile and not plan.work.cached
    task = replace(
        measure_task(plan, limit.size_bytes),
        prime=primed,
        precision=None,
        warmup_max_s=0.0,
        sample_period_s=None,
    )
    prior = plan.forecast.line(plan.work)
    with Measurer() as measurer:
        trials = Trials(
            task, measurer, progress, plan.forecast.step_flops, plan.forecast.filling_flops
        )
        largest = question.max_batch_size or batch.LARGEST
        try:
            found = batch.search(trials.probe, limit, prior, largest, question.batch_multiple)
        except OutOfMemoryError as error:
            work = plan.work.with_batch(question.batch_multiple)
            needed = plan.forecast.peak_bytes(work)
            about = f" About {gib(needed)} are predicted." if needed else ""
            would = plan.forecast.way_out(work, limit.size_bytes)
            raise OutOfMemoryError(f"{error}{about} {would}") from error
        if question.auto_batch != "throughput":
            return found
        sizes = curve.candidates(found.max_batch_size, question.batch_multiple)
        trials.task = replace(task, memory_limit_bytes=_of_window(plan, limit.size_bytes))
        return replace(found, curve=curve.measured(sizes, trials.round))


def _of_window(plan: Plan, limit_bytes: int) -> int:
    """What a window may take that follows a search within the limit.

    Over a long window a process's heap grows a little; a GPU's allocator has been through it all.
    """
    if plan.detected.kind == "cuda":
        return limit_bytes
    return limit_bytes + max(WINDOW_SLACK_BYTES, limit_bytes // 20)


def _limit(plan: Plan) -> batch.Limit:
    """What a step may take: what the person states, and no more than what is free."""
    here = plan.detected
    free = here.free_bytes
    if here.kind == "cuda":
        others = f", where {'; '.join(here.others)}" if here.others else ""
        most = batch.Limit(free, f"free of the {gib(here.memory_bytes)} of {here.name}{others}")
    else:
        most = batch.Limit(int(free * (1 - HOST_RESERVE)), f"95% of the {gib(free)} that are free")
    stated = plan.asked.memory_limit_bytes
    if stated is None:
        return most
    words = f"--memory-limit {plan.question.memory_limit}"
    if stated > most.size_bytes:
        return replace(most, source=f"{most.source}; {words} is more")
    return batch.Limit(stated, words)


def measure_task(plan: Plan, limit_bytes: int | None) -> MeasureTask:
    """What a worker is asked for to measure the plan."""
    question, kind = plan.question, plan.detected.kind
    warmup_steps, warmup_s, warmup_max_s = WARMUP[kind]
    window_s = plan.asked.time_s or WINDOW_S[kind]
    return MeasureTask(
        model=plan.model,
        workload=plan.work,
        device=kind,
        warmup_steps=warmup_steps,
        warmup_s=warmup_s,
        steps=question.steps,
        min_steps=MIN_STEPS,
        min_s=min(MIN_S[kind], window_s),
        window_s=window_s,
        precision=plan.asked.precision or PRECISION[kind],
        warmup_max_s=warmup_max_s,
        sample_period_s=max(SAMPLE_S, window_s / MOST_SAMPLES),
        data=str(question.data.resolve()) if question.data else None,
        memory_limit_bytes=limit_bytes,
    )


def refuse_hopeless(plan: Plan) -> None:
    """Raise OutOfMemoryError where weights and what trains them are more than all the memory.

    A CPU without a limit does not refuse an allocation: the kernel kills, and not always us.
    """
    kept, memory_bytes = plan.forecast.kept_bytes(plan.work), plan.detected.memory_bytes
    if plan.detected.kind == "cpu" and kept > memory_bytes:
        would = plan.forecast.way_out(plan.work, memory_bytes)
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
    return OutOfMemoryError(
        f"{what_does_not_fit(plan, limit_bytes, error)} "
        f"{'Type --auto-batch for the largest that fits. ' if plan.work.batch_size > 1 else ''}"
        f"{plan.forecast.way_out(plan.work, limit_bytes or plan.detected.free_bytes)}"
    )


def what_does_not_fit(plan: Plan, limit_bytes: int | None, error: OutOfMemoryError) -> str:
    """A sentence: which batch does not fit, and what it needs."""
    allowed = f" into {gib(limit_bytes)}" if limit_bytes else ""
    predicted = plan.forecast.peak_bytes(plan.work)
    needed = f"about {gib(predicted)} are needed ({error})" if predicted else str(error)
    return f"batch {_batch(plan)} does not fit{allowed}: {needed}."


def _batch(plan: Plan) -> str:
    """'8 × 1024 tokens', or '8 samples'."""
    work = plan.work
    tokens = f"{work.batch_size} × {work.seq_len} tokens"
    return tokens if plan.model.unit == "token" else f"{work.batch_size} samples"
