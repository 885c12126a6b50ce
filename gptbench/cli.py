"""The command line: one short function a command.

Each command imports what it needs, builds the nouns, calls one function and shows one answer.
stdout gets the answer and nothing else; progress, caveats and errors go to stderr.
"""

import os
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gptbench import __version__
from gptbench.errors import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_QUESTION,
    EXIT_REGRESSED,
    EXIT_UNAVAILABLE,
    GptbenchError,
    QuestionError,
)

app = typer.Typer(
    name="gptbench",
    help="FLOPs, memory and MFU of GPT models: counted, measured and explained.",
    epilog="Any command takes --debug, which shows the traceback of an error.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


# click's error for a wrong command line. Newer releases of typer carry a click of their own, so
# that importing click would name another class than the one that is raised.
UsageError: Any = typer.BadParameter.__mro__[1]


class Format(StrEnum):
    """What stdout gets."""

    table = "table"
    json = "json"
    csv = "csv"
    markdown = "markdown"


class ModeChoice(StrEnum):
    """What a step does."""

    train = "train"
    forward = "forward"


class CountedMode(StrEnum):
    """What a step that is only counted does."""

    train = "train"
    forward = "forward"
    prefill = "prefill"
    decode = "decode"


class RecomputeChoice(StrEnum):
    """What the backward pass runs again instead of keeping it."""

    none = "none"
    attention = "attention"
    block = "block"


class AttentionChoice(StrEnum):
    """How attention is computed: by one kernel, or written out."""

    fused = "fused"
    math = "math"


class AutoBatchChoice(StrEnum):
    """Which of the batch sizes that fit is used."""

    largest = "largest"
    throughput = "throughput"


class OptimizerChoice(StrEnum):
    """Whose state is held."""

    adamw = "adamw"
    adamw_bf16 = "adamw-bf16"
    adamw_master = "adamw-master"
    sgd_momentum = "sgd-momentum"
    sgd = "sgd"


class DeviceChoice(StrEnum):
    """Where the model runs."""

    auto = "auto"
    cuda = "cuda"
    cpu = "cpu"


ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A preset, a preset file, or a config.json or its folder."
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option("-b", "--batch-size", metavar="B", min=1, help="Put B sequences in a step."),
]
SeqLen = Annotated[
    int | None,
    typer.Option(
        "-t", "--seq-len", metavar="T", min=1, help="Give a sequence T tokens (default: n_ctx)."
    ),
]
InputShape = Annotated[
    str | None,
    typer.Option(metavar="SHAPE", help="Give module:factory's forward this, such as 1x1024."),
]
InputDtype = Annotated[
    str | None, typer.Option(metavar="TYPE", help="Of this type (default: int64, token ids).")
]
NamedInputs = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=SHAPE[:TYPE]", help="And this argument; may be repeated."),
]
Depth = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Show N levels of module:factory's tree (default: 3)."),
]
CountedModeOption = Annotated[
    CountedMode,
    typer.Option(help="Train a step, run forward, fill a cache, or decode a token against it."),
]
Pure = Annotated[
    bool, typer.Option("--pure", help="Store weights in DTYPE too, instead of autocast.")
]
Mode = Annotated[ModeChoice, typer.Option(help="Train a step, or run forward only.")]
ConventionOption = Annotated[
    str,
    typer.Option(
        metavar="KEY", help="Count FLOPs for MFU and HFU as KEY does, such as palm or torchtitan."
    ),
]
DtypeOption = Annotated[
    str | None,
    typer.Option("--dtype", metavar="DTYPE", help="Multiply in float32, bfloat16 or float16."),
]
RecomputeOption = Annotated[
    RecomputeChoice, typer.Option(help="Run this again in the backward pass.")
]
GradAccum = Annotated[
    int, typer.Option(metavar="N", min=1, help="Add up the gradients of N batches in a step.")
]
AttentionOption = Annotated[
    AttentionChoice, typer.Option(help="Use one attention kernel, or write it out.")
]
FormatOption = Annotated[Format, typer.Option("--format", help="Choose what stdout gets.")]
Devices = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", envvar="GPTBENCH_DEVICES", help="Add rows of a CSV to the peak table."
    ),
]


@app.command()
def presets(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One preset.")] = None,
    format: FormatOption = Format.table,
) -> None:
    """List the models that gptbench knows by name.

    Example: gptbench presets gpt2-xl
    """
    from gptbench import flops, presets, record
    from gptbench.report import catalogue

    models = {name: presets.load(name)} if name else presets.catalogue()

    def document() -> Any:
        return {
            "models": [
                {
                    **record.to_builtins(m),
                    "parameters": flops.counted(flops.parameters(m)),
                }
                for m in models.values()
            ]
        }

    one = next(iter(models.values()))
    _show(format, [catalogue.preset(one) if name else catalogue.presets(models)], document)


@app.command()
def gpus(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="An id, a short name, or a name as drivers say it."),
    ] = None,
    devices: Devices = None,
    format: FormatOption = Format.table,
) -> None:
    """Show the peaks of devices: dense, per dtype, with sources.

    Example: gptbench gpus a100
    """
    from gptbench import device
    from gptbench.report import catalogue

    rows = device.table(devices)
    found = device.find(name, rows) if name else rows
    tables = [catalogue.gpu(d) for d in found] if name else [catalogue.gpus(found)]
    _show(format, tables, lambda: {"devices": [device.document(d) for d in found]})


@app.command()
def flops(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A preset, a .toml, a config.json, or your own module:factory."
        ),
    ],
    batch_size: BatchSize = None,
    seq_len: SeqLen = None,
    seq_lens: Annotated[
        str | None,
        typer.Option(metavar="T,T,...", help="Pack sequences of these lengths into a row."),
    ] = None,
    mode: CountedModeOption = CountedMode.train,
    recompute: RecomputeOption = RecomputeChoice.none,
    grad_accum: GradAccum = 1,
    gpu: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Show the roof of this GPU that each part is under."),
    ] = None,
    dtype: DtypeOption = None,
    attention: AttentionOption = AttentionChoice.fused,
    by_layer: Annotated[bool, typer.Option("--layers", help="Show each layer.")] = False,
    others: Annotated[
        bool, typer.Option("--conventions", help="Show how other people count the same model.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Hold the count to PyTorch's counter and to fvcore.")
    ] = False,
    devices: Devices = None,
    input_shape: InputShape = None,
    input_dtype: InputDtype = None,
    input: NamedInputs = None,
    depth: Depth = None,
    format: FormatOption = Format.table,
) -> None:
    """Count the FLOPs of a forward pass and a training step.

    Example: gptbench flops gpt2-xl --check

    Example: gptbench flops net:build --input-shape 1x1024
    """
    traced = _of_trace(input_shape, input_dtype, input, depth)
    if ":" in model and not os.path.exists(model):  # noqa: PTH110, Path's raises for odd names
        _refuse(
            "is for presets",
            {
                "-b": batch_size, "-t": seq_len, "--seq-lens": seq_lens, "--gpu": gpu,
                "--dtype": dtype, "--check": check or None, "--layers": by_layer or None,
                "--conventions": others or None, "--recompute": recompute.value != "none" or None,
                "--grad-accum": grad_accum > 1 or None,
                "--attention": attention.value != "fused" or None,
            },
        )  # fmt: skip
        _trace(model, mode, format, traced)
        return
    _refuse("is for a module:factory", traced)
    from gptbench import presets
    from gptbench.config import Workload, check_fits_context, parse_dtype, parse_lengths
    from gptbench.report import ledgers

    config = presets.load(model)
    lengths = () if seq_lens is None else parse_lengths(seq_lens)
    if lengths and seq_len:
        raise QuestionError("--seq-len and --seq-lens contradict each other. Type one of them.")
    multiplied = None if dtype is None else parse_dtype(dtype)
    roofs = None if gpu is None else _roofs(gpu, devices, multiplied)
    work = Workload(
        batch_size=batch_size or 1,
        seq_len=sum(lengths) or seq_len or config.n_ctx,
        seq_lens=lengths,
        mode=mode.value,
        dtype=roofs.dtype if roofs else multiplied or "float32",
        attention=attention.value,
        recompute=recompute.value,
        grad_accum=grad_accum,
    )
    check_fits_context(config, work)
    ledger = ledgers.ledger(config, work)
    tables = [ledger if others else ledgers.pointing_to_conventions(ledger)]
    if by_layer:
        tables.append(ledgers.layers(config, work))
    if roofs:
        from gptbench.report import roofs as limits

        tables.append(limits.table(config, work, roofs))
    if others:
        from gptbench.report import conventions

        tables.append(conventions.counts(config, work))
    checks = _check(config, work) if check else []
    if checks:
        tables.append(ledgers.checks(checks, config, work))

    def document() -> Any:
        from gptbench import analysis

        return {**analysis.document(config, work, roofs), "checks": checks}

    _show(format, tables, document)
    if any(c["difference"] for c in checks):
        raise typer.Exit(EXIT_REGRESSED)


@app.command()
def memory(
    model: ModelArgument,
    batch_size: BatchSize = None,
    seq_len: SeqLen = None,
    mode: CountedModeOption = CountedMode.train,
    dtype: DtypeOption = None,
    pure: Pure = False,
    optimizer: Annotated[
        OptimizerChoice, typer.Option(help="Hold the state of this optimizer.")
    ] = OptimizerChoice.adamw,
    attention: AttentionOption = AttentionChoice.fused,
    recompute: RecomputeOption = RecomputeChoice.none,
    grad_accum: GradAccum = 1,
    gpu: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Show the largest batch that should fit into this GPU."),
    ] = None,
    device: Annotated[
        DeviceChoice, typer.Option(help="Count the kernels of this (auto: cuda with --gpu).")
    ] = DeviceChoice.auto,
    devices: Devices = None,
    format: FormatOption = Format.table,
) -> None:
    """Predict what a step holds in memory, when it holds most, and what would make room.

    Example: gptbench memory gpt2-xl -b 8 --dtype bf16 --gpu a100-sxm4-80gb
    """
    from gptbench import presets, room
    from gptbench.config import Workload, check_fits_context, parse_dtype
    from gptbench.memory import Setup
    from gptbench.report import footprints

    if gpu and device is DeviceChoice.cpu:
        raise QuestionError(f"--gpu '{gpu}' and --device cpu contradict each other.")
    config = presets.load(model)
    allowed = _limit(gpu, devices) if gpu else None
    multiplied = parse_dtype(dtype or (allowed.dtype if allowed else "float32"))
    if pure and multiplied == "float32":
        raise QuestionError("--pure stores weights below float32. Type --dtype bfloat16 with it.")
    work = Workload(
        batch_size=batch_size or 1,
        seq_len=seq_len or config.n_ctx,
        mode=mode.value,
        dtype=multiplied,
        autocast=multiplied != "float32" and not pure,
        attention=attention.value,
        recompute=recompute.value,
        grad_accum=grad_accum,
    )
    check_fits_context(config, work)
    cuda = device is DeviceChoice.cuda or gpu is not None
    case = room.Case(config, work, Setup("cuda" if cuda else "cpu", optimizer.value))
    most = room.largest_batch(case, allowed) if allowed else None
    if most and batch_size is None:
        case = room.Case(config, work.with_batch(most), case.setup)
    advice = room.advice(case, allowed)
    tables = [footprints.ledger(case), footprints.moments(case.footprint)]
    if allowed and most:
        tables.append(footprints.fitting(most, allowed))
    if advice:
        tables.append(footprints.advice(advice, case.work.batch_size))
    _show(format, tables, lambda: room.document(case, advice, most))


@app.command()
def mfu(
    model: ModelArgument,
    tokens_per_s: Annotated[
        str | None,
        typer.Option(metavar="N", help="Judge N tokens/s of all GPUs together, such as 868k."),
    ] = None,
    claim: Annotated[
        str | None,
        typer.Option("--mfu", metavar="SHARE", help="Turn an MFU, such as 45%, into tokens/s."),
    ] = None,
    gpu: Annotated[
        str | None, typer.Option(metavar="NAME", help="Judge by this GPU's peak, such as a100.")
    ] = None,
    n_gpus: Annotated[int, typer.Option(metavar="G", min=1, help="Count G GPUs.")] = 1,
    seq_len: SeqLen = None,
    dtype: Annotated[
        str, typer.Option(metavar="DTYPE", help="Judge by the peak of this dtype.")
    ] = "bfloat16",
    recompute: Annotated[
        RecomputeChoice, typer.Option(help="Add to HFU what is computed again.")
    ] = RecomputeChoice.none,
    tokens: Annotated[
        str | None,
        typer.Option(metavar="COUNT", help="Time a training of this many tokens, such as 300B."),
    ] = None,
    peak: Annotated[
        str | None,
        typer.Option(metavar="RATE", help="State the dense peak of one GPU: 125TFLOP/s."),
    ] = None,
    devices: Devices = None,
    format: FormatOption = Format.table,
) -> None:
    """Judge a published or logged throughput, under every convention.

    Example: gptbench mfu gpt2-small --tokens-per-s 868k --gpu a100 --n-gpus 8
    """
    from gptbench import published
    from gptbench.report import published as report

    question = published.Question(
        model=model,
        tokens_per_s=tokens_per_s,
        mfu=claim,
        tokens=tokens,
        gpu=gpu,
        n_gpus=n_gpus,
        seq_len=seq_len,
        dtype=dtype,
        recompute=recompute.value,
        peak=peak,
        devices=devices,
    )
    found = published.answer(question)
    _show(format, [report.table(found)], lambda: published.document(found))
    sys.stdout.flush()
    for diagnosis in found.diagnoses:
        print(f"Note: {report.sentence(diagnosis)}", file=sys.stderr)
    published.refuse_impossible(found)


@app.command()
def throughput(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]", help="A preset, a .toml, a config.json (default: one to suit)."
        ),
    ] = None,
    gpu: Annotated[
        str | None, typer.Option(metavar="NAME", help="Insist on this GPU, such as a100.")
    ] = None,
    auto_batch: Annotated[
        AutoBatchChoice | None,
        typer.Option(
            metavar="[=throughput]",
            help="Find the largest batch that fits, or the smallest within 1% of the fastest.",
        ),
    ] = None,
    batch_multiple: Annotated[
        int, typer.Option(metavar="M", min=1, help="Find a multiple of M.")
    ] = 1,
    max_batch_size: Annotated[
        int | None, typer.Option(metavar="B", min=1, help="Find no batch larger than B.")
    ] = None,
    batch_size: BatchSize = None,
    seq_len: SeqLen = None,
    mode: Mode = ModeChoice.train,
    dtype: DtypeOption = None,
    pure: Pure = False,
    tf32: Annotated[bool, typer.Option("--tf32", help="Multiply float32 numbers as TF32.")] = False,
    attention: AttentionOption = AttentionChoice.fused,
    recompute: RecomputeOption = RecomputeChoice.none,
    grad_accum: GradAccum = 1,
    compile: Annotated[bool, typer.Option("--compile", help="Use torch.compile.")] = False,
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Time N steps (default: as many as fill 12 s)."),
    ] = None,
    memory_limit: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Allow this much memory, such as 2GiB.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Read tokens from FILE (default: Python's own source)."),
    ] = None,
    peak: Annotated[
        str | None,
        typer.Option(metavar="RATE", help="State the peak: 125TFLOP/s, or 'none' for no MFU."),
    ] = None,
    device: Annotated[DeviceChoice, typer.Option(help="Run here.")] = DeviceChoice.auto,
    devices: Devices = None,
    convention: ConventionOption = "exact",
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="DIR", help="Write result.json, .csv, report.html."),
    ] = None,
    format: FormatOption = Format.table,
) -> None:
    """Measure tokens/s and MFU of a model on this machine.

    Example: gptbench throughput gpt2-small --gpu a100 --auto-batch --out results
    """
    from gptbench import conventions, metrics, record, throughput

    counted = conventions.named(convention)
    folder = record.output_folder(out) if out else None
    question = throughput.Question(
        command=_command_line(),
        model=model,
        gpu=gpu,
        device=device.value,
        auto_batch=auto_batch.value if auto_batch else None,
        batch_multiple=batch_multiple,
        max_batch_size=max_batch_size,
        batch_size=batch_size,
        seq_len=seq_len,
        mode=mode.value,
        dtype=dtype,
        pure=pure,
        tf32=tf32,
        attention=attention.value,
        recompute=recompute.value,
        grad_accum=grad_accum,
        compile=compile,
        steps=steps,
        memory_limit=memory_limit,
        data=data,
        peak=peak,
        devices=devices,
    )
    with _progress() as progress:
        rec = throughput.run(question, progress)
    result = metrics.derive(rec)
    metrics.refuse_impossible(result, rec)
    if folder is not None:
        _write_reports(folder, [rec], counted)
    _show_results(format, [rec], counted)


@app.command()
def report(
    files: Annotated[
        list[Path], typer.Argument(metavar="RESULT...", help="Files that --out wrote: result.json.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="DIR", help="Write result.csv and report.html there."),
    ] = None,
    convention: ConventionOption = "exact",
    format: FormatOption = Format.table,
) -> None:
    """Make the tables and pages again, from records alone.

    Example: gptbench report results/result.json --out results
    """
    from gptbench import conventions, metrics, record

    counted = conventions.named(convention)
    folder = record.output_folder(out) if out else None
    records = [metrics.with_current_peak(record.read(path)) for path in files]
    if folder is not None:
        _write_reports(folder, records, counted)
    _show_results(format, records, counted)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"gptbench {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """FLOPs, memory and MFU of GPT models: counted, measured and explained."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def _roofs(gpu: str, devices: Path | None, dtype: str | None) -> Any:
    from gptbench import device, roofline

    return roofline.roofs(device.find(gpu, device.table(devices)), dtype)


def _limit(gpu: str, devices: Path | None) -> Any:
    from gptbench import device, room

    return room.limit(device.find(gpu, device.table(devices)))


def _check(config: Any, work: Any) -> list[dict[str, Any]]:
    from gptbench import record, runner

    with _progress() as progress:
        checks = runner.check(record.CheckTask(model=config, workload=work), progress)
    return [record.check_document(c) for c in checks]


def _of_trace(
    shape: str | None, dtype: str | None, named: list[str] | None, depth: int | None
) -> dict[str, Any]:
    """The options of `flops` that only a module:factory takes, as a person types them."""
    return {
        "--input-shape": shape,
        "--input-dtype": dtype,
        "--input": named or None,
        "--depth": depth,
    }


def _refuse(why: str, options: dict[str, Any]) -> None:
    """Raise QuestionError for the first option that was given."""
    for option, value in options.items():
        if value is not None:
            raise QuestionError(f"{option} {why}.")


def _trace(target: str, mode: CountedMode, format: Format, options: dict[str, Any]) -> None:
    """Answer `flops module:factory`."""
    from gptbench import inputs, record, runner
    from gptbench.report import traces

    inputs.parse_target(target)
    if mode.value not in ("train", "forward"):
        raise QuestionError(f"--mode {mode.value} is for presets. Type --mode forward.")
    shape, named = options["--input-shape"], options["--input"] or ()
    if shape is None and not named:
        raise QuestionError(f"'{target}' needs an input. Type --input-shape 1x1024, or another.")
    given = tuple(map(inputs.parse_named, named))
    if shape is not None:
        dtype = inputs.parse_dtype(options["--input-dtype"] or "int64")
        given = (inputs.Input(shape=inputs.parse_shape(shape), dtype=dtype), *given)
    task = record.TraceTask(
        target=target, inputs=given, mode="train" if mode is CountedMode.train else "forward"
    )
    with _progress() as progress:
        traced = runner.trace(task, progress)
    depth = options["--depth"] or 3
    tables = traces.tables(traced, depth, indented=format is Format.table)
    _show(format, tables, lambda: record.trace_document(traced))


def _progress() -> Any:
    from gptbench.report import progress, text

    return progress.bar(text.console(stderr=True))


def _show(format: Format, tables: Sequence[Any], document: Callable[[], Any]) -> None:
    """Give stdout the answer in the form that was asked for."""
    if format is Format.json:
        from gptbench import record

        sys.stdout.write(record.dump_json(document()))
    elif format is Format.csv:
        from gptbench.report import delimited

        sys.stdout.write("\n".join(delimited.table_csv(t) for t in tables))
    elif format is Format.markdown:
        from gptbench.report import markdown

        sys.stdout.write("\n".join(markdown.render(t) for t in tables))
    else:
        from gptbench.report import text

        console = text.console()
        for t in tables:
            text.show(t, console)


def _show_results(format: Format, records: Sequence[Any], convention: Any) -> None:
    from gptbench import metrics
    from gptbench.report import caveats, frame, results

    derived = [metrics.derive(rec, convention) for rec in records]
    if format is Format.csv:
        sys.stdout.write(frame.csv_text(frame.measurements(records, convention=convention)))
        return
    tables = []
    for rec, result in zip(records, derived, strict=True):
        tables.append(results.result(rec, result))
        if rec.batch_search is not None:
            tables.append(results.probes(rec.batch_search))
            if rec.batch_search.curve:
                tables.append(results.speeds(rec.batch_search, rec.workload))
    documents = [metrics.document(r, m) for r, m in zip(records, derived, strict=True)]
    _show(format, tables, lambda: documents[0] if len(documents) == 1 else {"results": documents})
    sys.stdout.flush()
    for result in derived:
        for caveat in result.caveats:
            print(f"Note: {caveats.sentence(caveat)}", file=sys.stderr)


def _write_reports(folder: Path, records: Sequence[Any], convention: Any) -> None:
    """result.json (of a single record), result.csv and report.html, each whole or not at all."""
    from gptbench import metrics, record
    from gptbench.report import frame, html

    if len(records) == 1:
        document = metrics.document(records[0], metrics.derive(records[0], convention))
        record.write_whole(folder / "result.json", record.dump_json(document))
    measured = frame.measurements(records, convention=convention)
    record.write_whole(folder / "result.csv", frame.csv_text(measured))
    record.write_whole(folder / "report.html", html.page(records, convention))
    written = "result.csv and report.html"
    if len(records) == 1:
        written = f"result.json, {written}"
    print(f"Wrote {written} in {folder}.", file=sys.stderr)


def _command_line() -> str:
    import shlex

    return shlex.join(["gptbench", *sys.argv[1:]])


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; nobody sees a traceback without --debug."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        status = _run([w for w in words if w != "--debug"])
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough (`| head`); nothing is wrong and nobody is left to tell.
        _discard_stdout()
        status = EXIT_DONE
    except GptbenchError as error:
        if debug:
            raise
        _complain(str(error))
        status = error.exit_code
    except OSError as error:
        if debug:
            raise
        _discard_stdout()
        _complain(f"the answer could not be written: {error.strerror or error}.")
        status = EXIT_UNAVAILABLE
    except KeyboardInterrupt:
        _complain("interrupted; nothing was left half-written.")
        status = EXIT_INTERRUPTED
    return status


def _run(words: list[str]) -> int:
    try:
        status = app(args=_completed(words), prog_name="gptbench", standalone_mode=False)
    except UsageError as error:
        error.show()
        return EXIT_QUESTION
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    if status == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    return status if isinstance(status, int) else EXIT_DONE


def _completed(words: list[str]) -> list[str]:
    """The words with the value that --auto-batch alone leaves out: typer knows no optional ones."""
    return ["--auto-batch=largest" if word == "--auto-batch" else word for word in words]


def _complain(sentence: str) -> None:
    print(f"Error: {sentence}", file=sys.stderr)


def _discard_stdout() -> None:
    """Send what is still buffered nowhere, so that the interpreter's own flush cannot fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
