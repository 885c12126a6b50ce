"""The shape of the package: imports point down, and every third-party package has one home.

Each rule is a function from a module's name and source to what is wrong with it, so that a planted
source can prove that the rule is able to fail.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "gptbench"

# Bottom first. A module imports only from floors below its own.
FLOORS = (
    ("errors", "cgroup"),
    ("outputs",),
    ("oom", "cores"),
    ("units", "stats", "ranks", "student", "tomlfile"),
    ("verdict",),
    ("series", "telemetry", "upgrades"),
    ("stopping",),
    ("config", "device"),
    ("kernels",),
    ("hub.fields",),
    ("hub.families",),
    ("hub.reader",),
    ("hub.writer",),
    ("inputs",),
    ("own",),
    ("presets", "tasks", "flops", "visit", "corpus", "generation"),
    ("documents", "levels", "training"),
    ("stored",),
    ("record",),
    ("settings", "overpeak", "trainrecord"),
    ("comparability",),
    ("comparison",),
    ("controls",),
    ("models", "schema"),
    ("scaling", "runs"),
    ("scaling_fit",),
    ("tape", "conventions", "curve", "calibration"),
    ("activations.parts", "profiling"),
    ("activations.attention", "activations.mlps", "whatif"),
    ("activations.layers",),
    ("memory",),
    ("roofline", "advice"),
    ("room",),
    ("analysis",),
    ("counts",),
    ("trust",),
    ("inference",),
    ("metrics", "utilization"),
    ("diagnosis", "yardstick", "waterfall"),
    ("evidence",),
    ("faults", "choices"),
    ("findings",),
    ("published", "meter", "components"),
    ("module_times",),
    ("profile_schema",),
    ("budget",),
    # What runs in other people's trainings, which have torch anyway.
    ("adapters.batches", "adapters.devices", "adapters.scalars"),
    ("adapters.accelerate", "adapters.lightning", "adapters.tensorboard", "adapters.trainer"),
    # The worker's tower.
    (
        "worker.model",
        "worker.modules",
        "worker.clock",
        "worker.oom",
        "worker.memory_limit",
        "worker.text",
        "worker.lifeline",
        "worker.nvml",
        "worker.host",
        "worker.energy",
        "worker.compilation",
        "worker.garbage",
        "worker.classes",
        "worker.work",
        "worker.kept",
        "worker.shards",
        "worker.tokenizer",
        "worker.algebra",
        "worker.loader",
        "worker.divergence",
        "worker.schedule",
    ),
    (
        "worker.rounds",
        "worker.events",
        "worker.arithmetic",
        "worker.checkpoint",
        "worker.weights",
        "worker.sampling",
        "worker.packed_cache",
        "worker.onednn",
        "worker.transcript",
        "worker.sources",
    ),
    ("worker.pretrained", "worker.continuation"),
    ("worker.products", "worker.attentions", "worker.bandwidth", "worker.timeline"),
    ("worker.factory", "worker.arguments", "worker.loss", "worker.lookups"),
    (
        "worker.calibrate",
        "worker.step",
        "worker.distributed",
        "worker.environment",
        "worker.sampler",
    ),
    (
        "worker.own",
        "worker.streams",
        "worker.update",
        "worker.evaluate",
        "worker.exercises",
        "worker.resume",
        "worker.corpus",
    ),
    ("worker.runnable",),
    ("worker.telemetry", "worker.detect", "worker.warmup"),
    ("worker.window",),
    ("worker.measure", "worker.visits"),
    ("worker.profile",),
    (
        "worker.crosscheck",
        "worker.learner",
        "worker.generate",
        "worker.export",
        "worker.allocations",
    ),
    ("worker.operators", "worker.train"),
    ("worker.counter",),
    ("worker.trace", "worker.server"),
    ("worker.footprint",),
    ("worker.__main__",),
    # The front.
    ("process",),
    ("runner",),
    ("question",),
    ("batch", "trials", "turns"),
    # Which is a worker in the process of whoever calls it.
    ("adapters.performance",),
    ("cache",),
    ("calibrated",),
    ("calibrate",),
    ("forecast",),
    ("throughput", "contest", "estimates"),
    ("profile", "train"),
    ("rivals", "grid", "shelf"),
    ("sweep", "archive", "tries"),
    ("compare", "history"),
    ("report.table", "report.words", "report.doubts"),
    ("report.runs", "report.inferences"),
    ("report.misgivings",),
    ("report.caveats",),
    (
        "report.ledgers",
        "report.conventions",
        "report.catalogue",
        "report.results",
        "report.roofs",
        "report.surroundings",
        "report.modules",
        "report.components",
        "report.findings",
        "report.traces",
        "report.calibrations",
        "report.texts",
        "report.learning",
        "report.heatmap",
    ),
    ("report.footprints", "report.comparisons", "report.profiles"),
    ("report.entries",),
    ("report.checks",),
    ("report.published",),
    ("report.scalings",),
    ("report.figures",),
    (
        "report.delimited",
        "report.exports",
        "report.frame",
        "report.markdown",
        "report.plot",
        "report.pairs",
        "report.rooflines",
        "report.frontiers",
        "report.lossplot",
        "report.junit",
    ),
    ("report.waterfalls", "report.trends", "report.trend_plot"),
    ("report.text", "report.progress", "report.sweeps", "report.pages.parts"),
    ("report.columns",),
    (
        "report.pages.calibration",
        "report.pages.comparison",
        "report.pages.index",
        "report.pages.profile",
        "report.pages.result",
        "report.pages.scaling",
        "report.pages.training",
    ),
    ("cli.options",),
    ("cli.answer", "cli.question"),
    ("cli.trace", "cli.footprint", "cli.profile", "cli.train"),
    (
        "cli.presets",
        "cli.gpus",
        "cli.flops",
        "cli.generate",
        "cli.export",
        "cli.memory",
        "cli.mfu",
        "cli.scaling",
        "cli.throughput",
        "cli.calibrate",
        "cli.compare",
        "cli.report",
        "cli.schema",
        "cli.sweep",
    ),
    ("cli.main",),
    ("__main__",),
)
FLOOR = {module: height for height, floor in enumerate(FLOORS) for module in floor}

# Every third-party package has one home: modules, or a folder (with its dot).
HOMES = {
    "torch": ("worker.", "adapters."),
    "fvcore": ("worker.crosscheck",),
    "transformers": ("worker.", "adapters.trainer"),
    "accelerate": ("adapters.accelerate",),
    "lightning": ("adapters.lightning",),
    "pytorch_lightning": ("adapters.lightning",),
    "pynvml": ("worker.nvml",),
    "psutil": ("process", "cores", "worker."),
    "tokenizers": ("worker.tokenizer",),
    "safetensors": ("worker.checkpoint", "worker.shards"),
    "msgspec": ("stored", "documents", "schema", "runner", "cache", "shelf", "worker."),
    "platformdirs": ("cache",),
    "pandas": ("report.frame", "report.sweeps"),
    "matplotlib": (
        "report.figures",
        "report.lossplot",
        "report.pairs",
        "report.frontiers",
        "report.plot",
        "report.rooflines",
        "report.trend_plot",
        "report.waterfalls",
    ),
    "rich": ("report.text", "report.progress"),
    "numpy": (
        "scaling_fit",
        "worker.corpus",
        "worker.loader",
        "worker.evaluate",
        "worker.exercises",
    ),
    "scipy": ("scaling_fit",),
    "jinja2": ("report.pages.parts",),
    "typer": ("cli.",),
    # Standard library, but a way around every rule here: imports by a name made at run time.
    "importlib": (
        "worker.__main__",
        "worker.factory",
        "worker.environment",
        "worker.sources",
        "cli.main",
    ),
}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


MODULES = {name_of(path): path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
PACKAGES = {name for name in MODULES if name.rpartition(".")[2] == "__init__"}
BUILT_OF = {name: source for name, source in MODULES.items() if name not in PACKAGES}


def imported(source: str) -> Iterator[str]:
    """Dotted names that a module imports, at any depth; relative ones begin with a dot."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            yield from (f"{origin}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "__import__":
            yield "importlib"


def within(source: str) -> set[str]:
    """The modules of gptbench among them, by the names of the floors."""
    found = set()
    for name in imported(source):
        if name.startswith("gptbench."):
            inner = name.removeprefix("gptbench.")
            found.add(inner if inner in FLOOR else inner.rpartition(".")[0] or inner)
    return found - {"__version__"}


def upward(module: str, source: str) -> list[str]:
    """Imports that do not point down."""
    return sorted(m for m in within(source) if FLOOR.get(m, len(FLOORS)) >= FLOOR[module])


def strangers(module: str, source: str) -> list[str]:
    """Third-party packages that are not at home in the module."""
    roots = {name.split(".")[0] for name in imported(source)} - {"gptbench"}
    foreign = {root for root in roots if root in HOMES or root not in sys.stdlib_module_names}
    return sorted(
        root
        for root in foreign
        if not any(
            module == home or (home[-1] == "." and module.startswith(home))
            for home in HOMES.get(root, ())
        )
    )


def deferred(source: str) -> list[int]:
    """Lines of imports inside of functions."""
    return sorted(
        inner.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    )


def reached(start: str, sources: dict[str, str]) -> set[str]:
    """Modules that a chain of imports leads to, over what functions import too."""
    seen: set[str] = set()
    todo = {start}
    while todo:
        module = todo.pop()
        seen.add(module)
        todo |= within(sources.get(module, "")) - seen
    return seen


WITH_TORCH = ("worker", "adapters")


def with_torch(modules: set[str]) -> set[str]:
    return {m for m in modules if m.split(".")[0] in WITH_TORCH}


# -- the rules --------------------------------------------------------------------------------


@pytest.mark.parametrize("module", BUILT_OF)
def test_every_module_stands_on_a_floor(module):
    assert module in FLOOR


@pytest.mark.parametrize("module", BUILT_OF)
def test_imports_point_down(module):
    assert upward(module, BUILT_OF[module]) == []


@pytest.mark.parametrize("module", BUILT_OF)
def test_third_party_packages_stay_at_home(module):
    assert strangers(module, BUILT_OF[module]) == []


@pytest.mark.parametrize("module", [m for m in BUILT_OF if not m.startswith("cli.")])
def test_only_the_command_line_imports_inside_functions(module):
    assert deferred(BUILT_OF[module]) == []


@pytest.mark.parametrize("module", sorted(BUILT_OF.keys() - with_torch(set(BUILT_OF))))
def test_no_chain_of_imports_leads_from_the_front_to_torch(module):
    assert with_torch(reached(module, BUILT_OF)) == set()


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_importing_a_package_imports_nothing_else(package):
    assert list(imported(MODULES[package])) == []


SETTERS = ("nvmlDeviceSet", "nvmlDeviceReset", "nvidia-smi -lgc", "nvidia-smi -pl", "cpupower")


def forbidden(source: str) -> list[str]:
    """What would change the machine for others, or jumps when its clock is set."""
    return sorted(word for word in (*SETTERS, "time.time(") if word in source)


@pytest.mark.parametrize("module", BUILT_OF)
def test_nobodys_clocks_are_set_and_no_time_is_taken_from_a_clock_that_jumps(module):
    """Pitfalls 26 and 68."""
    assert forbidden(BUILT_OF[module]) == []


# -- and that each can fail -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("flops", "from gptbench import metrics", ["metrics"]),
        ("flops", "from gptbench.report.text import show", ["report.text"]),
        ("flops", "import gptbench.cli.main", ["cli.main"]),
        ("flops", "from gptbench.record import Record", ["record"]),
        ("runner", "def f():\n    from gptbench.batch import search", ["batch"]),
        ("errors", "from gptbench import nowhere", ["nowhere"]),
        ("errors", "from gptbench.nowhere import thing", ["nowhere"]),
        ("flops", "from gptbench.config import ModelConfig", []),
    ],
)
def test_an_import_that_points_up_is_seen(module, source, found):
    assert upward(module, source) == found


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("flops", "import torch", ["torch"]),
        ("flops", "from torch.nn import functional as F", ["torch"]),
        ("flops", "def f():\n    import torch.nn", ["torch"]),
        ("runner", "import gptbench.worker.model, torch", ["torch"]),
        ("metrics", "import pandas as pd", ["pandas"]),
        ("report.text", "import matplotlib", ["matplotlib"]),
        ("cli.main", "from rich.console import Console", ["rich"]),
        ("flops", "import numpy", ["numpy"]),
        ("runner", "import importlib", ["importlib"]),
        ("runner", "from importlib import import_module", ["importlib"]),
        ("runner", "__import__('torch')", ["importlib"]),
        ("flops", "from . import config", [""]),
        ("worker.model", "import torch\nimport math", []),
    ],
)
def test_a_package_away_from_home_is_seen(module, source, found):
    assert strangers(module, source) == found


@pytest.mark.parametrize(
    "source", ["library.nvmlDeviceSetGpuLockedClocks(card, 1, 2)", "began = time.time()"]
)
def test_a_setter_and_a_jumping_clock_are_seen(source):
    assert len(forbidden(source)) == 1


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("def f():\n    import json", [2]),
        ("async def f():\n    from json import dumps", [2]),
        ("class C:\n    def f(self):\n        if self:\n            import json", [4]),
        ("import json", []),
    ],
)
def test_an_import_inside_of_a_function_is_seen(source, lines):
    assert deferred(source) == lines


@pytest.mark.parametrize(
    "planted",
    [
        "from gptbench import worker",
        "def f():\n    from gptbench.worker.model import GPT",
        "from gptbench.adapters.tensorboard import log",
    ],
)
def test_a_chain_that_leads_to_torch_is_seen(planted):
    chain = {"cli.main": "def f():\n    from gptbench import runner", "runner": planted}
    assert with_torch(reached("cli.main", chain)) != set()


# -- the same, at run time --------------------------------------------------------------------

HEAVY = {"torch", "numpy", "pandas", "matplotlib", "pydantic", "jinja2"}

PROBE = """
import json, sys
{before}
from gptbench.cli.main import main
try:
    status = main({arguments!r})
except SystemExit as end:
    status = end.code
print(json.dumps([status or 0, sorted(sys.modules)]), file=sys.stderr)
"""


def loaded(*arguments, before=""):
    """What a child process has in sys.modules after the command, which must succeed."""
    code = PROBE.format(before=before, arguments=list(arguments))
    child = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=PACKAGE.parent,
        timeout=60,
    )
    status, modules = json.loads(child.stderr.splitlines()[-1])
    assert status == 0
    return set(modules)


@pytest.mark.parametrize(
    "command",
    [
        ("flops", "gpt2-xl"),
        ("flops", "tests/data/Qwen3-30B-A3B"),
        ("memory", "gpt2-xl", "--gpu", "v100-sxm2-32gb"),
        ("presets",),
        ("gpus", "a100"),
        ("compare", *2 * ["reports/cpu-2-cores/result.json"]),
        ("--help",),
    ],
    ids=" ".join,
)
def test_analysis_loads_nothing_heavy(command):
    assert loaded(*command) & HEAVY == set()


def test_counting_loads_no_reader_of_records():
    """It is 30 ms of a start that takes 120."""
    assert loaded("flops", "gpt2-xl") & {"msgspec", "psutil", "tempfile"} == set()


def test_the_probe_sees_what_is_loaded():
    assert loaded("flops", "gpt2-xl", before="import jinja2") & HEAVY == {"jinja2"}


def caches_emptied_in_handlers(source: str) -> list[int]:
    """Lines that empty CUDA's cache while an exception still holds the frames of the step."""
    handlers = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.ExceptHandler)]
    return [
        node.lineno
        for handler in handlers
        for node in ast.walk(handler)
        if isinstance(node, ast.Attribute) and node.attr == "empty_cache"
    ]


@pytest.mark.parametrize("name", MODULES)
def test_no_cache_is_emptied_where_an_exception_holds_what_is_in_it(name):
    """Pitfall 41."""
    assert caches_emptied_in_handlers(MODULES[name]) == []


def test_a_cache_that_is_emptied_in_a_handler_is_found():
    source = "try:\n    step()\nexcept MemoryError:\n    torch.cuda.empty_cache()\n"
    assert caches_emptied_in_handlers(source) == [4]


# Test modules that are of a package that may be missing, all of them.
SKIPPED_WHOLE = {"test_adapters", "test_browser", "test_hub", "test_models", "test_weights"}


@pytest.mark.parametrize(
    "file", sorted(Path(__file__).parent.glob("test_*.py")), ids=lambda f: f.stem
)
def test_a_missing_package_skips_the_tests_that_need_it_alone(file):
    skips = [
        node
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign | ast.Expr) and "importorskip(" in ast.unparse(node)
    ]
    assert not skips or file.stem in SKIPPED_WHOLE
