"""The one reader of presets/ and of preset files: TOML tables in, ModelConfigs out."""

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from gptbench import tomlfile
from gptbench.config import ModelConfig, ModelFieldError
from gptbench.errors import QuestionError, UnknownNameError

_HERE = Path(__file__).parent

# Beside the package in a checkout, inside it in a wheel.
PRESETS = next(p for p in (_HERE / "_presets", _HERE.parent / "presets") if p.is_dir())

KEYS = tuple(field.name for field in fields(ModelConfig) if field.name != "name")
REQUIRED = tuple(f.name for f in fields(ModelConfig) if f.default is MISSING and f.name in KEYS)


def load(model: str) -> ModelConfig:
    """The preset of that name, or the one model of a preset file (.toml).

    Raises QuestionError with file, line and key for a file that does not read, and
    UnknownNameError with the nearest names for a preset that is not there.
    """
    path = Path(model)
    if path.suffix == ".toml":
        return _only(read(path), path)
    found = find(model)
    if found is None:
        raise UnknownNameError("model", model, catalogue(), "'gptbench presets' shows them all.")
    return found


def find(name: str) -> ModelConfig | None:
    """The preset of that name, if there is one."""
    for file in sorted(PRESETS.glob("*.toml")):
        # A family is parsed only where it can hold the name: start-up is counted in milliseconds.
        if name in file.read_text(encoding="utf-8"):
            found = read(file)
            if name in found:
                return found[name]
    return None


def catalogue() -> dict[str, ModelConfig]:
    """Every preset by name, family by family."""
    models: dict[str, ModelConfig] = {}
    for file in sorted(PRESETS.glob("*.toml"), key=lambda f: (f.stem != "gpt2", f.stem)):
        models |= read(file)
    return models


def read(path: Path) -> dict[str, ModelConfig]:
    """Every model of a preset file. Raises QuestionError that names file, line and key."""
    text, tables = tomlfile.read(path, "preset file")
    return {name: _model(path, text, name, table) for name, table in tables.items()}


def _model(path: Path, text: str, name: str, table: Any) -> ModelConfig:
    if not isinstance(table, dict):
        where = f"{path}:{tomlfile.line_of(text, '', name)}"
        raise QuestionError(f"{where}: {name} stands outside of a table. Begin with [my-model].")
    for key in table:
        if key not in KEYS:
            where = f"{path}:{tomlfile.line_of(text, name, key)}: [{name}]"
            raise UnknownNameError("key", key, KEYS, f"It stands at {where}.")
    missing = [key for key in REQUIRED if key not in table]
    if missing:
        where = f"{path}:{tomlfile.line_of(text, name)}: [{name}]"
        raise QuestionError(f"{where} lacks {missing[0]!r}. Add a line '{missing[0]} = ...'.")
    try:
        return ModelConfig(name=name, **{key: _frozen(value) for key, value in table.items()})
    except ModelFieldError as error:
        raise QuestionError(
            f"{path}:{tomlfile.line_of(text, name, error.field)}: {error}"
        ) from error


def _frozen(value: Any) -> Any:
    """TOML's lists as the tuples that a frozen value holds."""
    return tuple(value) if isinstance(value, list) else value


def _only(models: dict[str, ModelConfig], path: Path) -> ModelConfig:
    if len(models) == 1:
        return next(iter(models.values()))
    names = ", ".join(models) or "none"
    raise QuestionError(
        f"'{path}' must hold one model, but holds {len(models)}: {names}. "
        "Copy one table into a file of its own."
    )
