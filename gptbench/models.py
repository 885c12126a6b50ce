"""The model that a person means: by a name, or an object that a training already holds."""

import os
from pathlib import Path
from typing import Any

from gptbench import flops, presets
from gptbench.config import ModelConfig
from gptbench.errors import QuestionError
from gptbench.hub import reader as hub
from gptbench.hub.reader import BY_TRACING


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


def of(model: object) -> ModelConfig:
    """A ModelConfig, what `load` reads, or a transformers configuration or model in memory.

    A model counts as its configuration says, and only where it is one that trains as that says:
    with as many parameters, none of them frozen. Raises QuestionError for any other.
    """
    if isinstance(model, ModelConfig):
        return model
    if isinstance(model, str | os.PathLike):
        return load(os.fspath(model))
    described = getattr(model, "config", model)
    to_dict = getattr(described, "to_dict", None)
    if isinstance(described, ModelConfig):
        config = described
    elif callable(to_dict):
        origin = Path(type(described).__name__)
        config = hub.interpret(origin, {**to_dict(), **_architectures(model)})
    else:
        raise QuestionError(
            f"{_kind(model)} has no configuration of transformers to count by. {BY_TRACING} Then "
            "give what it prints as flops_per_token."
        )
    if _is_module(model):
        _refuse_what_differs(model, config)
    return config


def _kind(model: object) -> str:
    """The class of a model, of the one inside where torch.compile has wrapped it."""
    return type(getattr(model, "_orig_mod", model)).__name__


def _is_module(model: object) -> bool:
    return callable(getattr(model, "parameters", None))


def _architectures(model: object) -> dict[str, Any]:
    """What transformers writes into the file of a model: a body without a head is none of words."""
    return {"architectures": [_kind(model)]} if _is_module(model) else {}


def _refuse_what_differs(model: Any, config: ModelConfig) -> None:
    """Raise QuestionError where a module is not, or does not train as, what its config describes."""
    own = tuple(model.parameters())
    held, counted = sum(p.numel() for p in own), flops.parameters(config).total
    if held != counted:
        raise QuestionError(
            f"{_kind(model)} has {held:,} parameters, but the model that its config describes has "
            f"{counted:,}. Give model.config where they are only stored otherwise. If they are "
            f"others: {BY_TRACING} Then give what it prints as flops_per_token."
        )
    if not all(p.requires_grad for p in own):
        raise QuestionError(
            f"{_kind(model)} has frozen parameters, whose gradients nobody computes. {BY_TRACING} "
            "Then give what it prints as flops_per_token."
        )
