"""The model that a person names: a preset, a preset file, or what Hugging Face keeps of one."""

import os
from pathlib import Path

from gptbench import presets
from gptbench.config import ModelConfig
from gptbench.errors import QuestionError
from gptbench.hub import reader as hub


def load(model: str) -> ModelConfig:
    """A preset by its name, a preset file with one table (.toml), a config.json or its folder.

    A preset's name comes before a folder's: ./gpt2-xl is the folder. Raises QuestionError with
    file, line and key for a file that does not read, and UnknownNameError with the nearest names
    for a preset that is not there.
    """
    path = Path(model)
    if path.suffix == ".py":
        raise QuestionError(
            f"'{model}' is Python. Type {model}:NAME --input-shape 1x1024, with the NAME of what "
            "builds the module."
        )
    if path.suffix == ".toml":
        return presets.load(model)
    if path.suffix == ".json" or os.sep in model:
        return hub.read(path)
    if presets.find(model) is None and os.path.exists(model):  # noqa: PTH110, Path's raises for odd names
        return hub.read(path)
    return presets.load(model)
