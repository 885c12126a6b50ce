"""What is installed: the wheel's content, and the pins everything is installed through."""

import re
import subprocess
import sys
import tomllib
import zipfile
from itertools import chain
from pathlib import Path

import pytest

import gptbench
from gptbench import device, presets

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
STATED = dict.fromkeys(chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()))
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
)


def normal(name):
    """The one spelling of a distribution's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def named(requirement):
    return normal(re.match(r"[\w.-]+", requirement)[0])


@pytest.mark.parametrize("requirement", STATED)
def test_every_dependency_is_pinned(requirement):
    assert named(requirement) in map(normal, PINS)


def test_pins_are_plain_versions_of_other_packages():
    assert all(re.fullmatch(r"[\w.]+", version) for version in PINS.values())
    assert not {"gptbench", "pip"} & {normal(name) for name in PINS}


def test_every_dependency_says_what_it_is_for():
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    assert [r for r in STATED if not re.search(rf'"{re.escape(r)}", +# \w', text)] == []


def test_the_version_is_not_written_twice():
    assert "version" in PROJECT["dynamic"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = folder.iterdir()
    return path


def content(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.slow
def test_wheel_is_named_after_the_version_in_the_source(wheel):
    assert wheel.name == f"gptbench-{gptbench.__version__}-py3-none-any.whl"


@pytest.mark.slow
def test_wheel_holds_every_file_of_the_package_and_of_the_presets(wheel):
    sources = {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for path in (ROOT / "gptbench").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    presets = {
        f"gptbench/_presets/{path.name}": path.read_bytes() for path in (ROOT / "presets").iterdir()
    }
    found = content(wheel)
    held = {name: found[name] for name in found if ".dist-info/" not in name}
    assert held == sources | presets


@pytest.mark.slow
def test_an_unpacked_wheel_reads_its_own_presets_and_devices(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "from gptbench import device, presets; "
        "print(presets.PRESETS, *presets.catalogue(), len(device.table()))"
    )
    child = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    models = [*presets.catalogue(), str(len(device.table()))]
    assert child.stdout.split() == [str(tmp_path / "gptbench/_presets"), *models]
