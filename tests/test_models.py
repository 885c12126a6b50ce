"""Models that a training holds in memory, counted as the same ones in files are."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_hub import TYPES, groups_of, merged, ours

from gptbench import flops, models, presets
from gptbench.errors import QuestionError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", minversion="5.0")

DATA = Path(__file__).parent / "data"
SMALL = {"vocab_size": 32, "n_layer": 2, "n_head": 2, "n_embd": 16}
NO_WORDS = {"bos_token_id": None, "eos_token_id": None}  # whose usual ids are over 32


def gpt2():
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**SMALL, **NO_WORDS))


@pytest.mark.parametrize("kind", TYPES)
@settings(max_examples=5)
@given(data=st.data())
def test_a_configuration_in_memory_is_the_one_in_its_file(kind, data):
    fields = merged(data.draw(groups_of(kind)))
    config = transformers.AutoConfig.for_model(kind, **fields)
    assert replace(models.of(config), name="model") == ours(config)


def test_a_model_is_the_one_that_its_configuration_describes():
    model = gpt2()
    assert models.of(model) == models.of(model.config)
    assert flops.parameters(models.of(model)).total == model.num_parameters()


def test_a_model_that_is_to_be_compiled_is_the_same():
    assert models.of(torch.compile(gpt2())) == models.of(gpt2())


def test_our_own_model_is_its_configuration():
    from gptbench.worker.model import GPT  # noqa: PLC0415

    config = presets.load("gpt2-small")
    with torch.device("meta"):
        assert models.of(GPT(config)) == config


@pytest.mark.parametrize("name", ["gpt2-small", str(DATA / "Qwen3-30B-A3B")])
def test_a_name_is_what_the_command_line_reads(name):
    assert models.of(name) == models.of(Path(name)) == models.load(name)


def test_a_model_config_is_itself():
    config = presets.load("gpt2-small")
    assert models.of(config) is config


def test_a_module_without_a_configuration_is_to_be_traced():
    with pytest.raises(QuestionError, match=r"Linear has no configuration .* module:factory"):
        models.of(torch.nn.Linear(2, 2))


def test_a_body_without_a_head_is_no_model_of_words():
    with pytest.raises(QuestionError, match=r"GPT2Model.* is no model with a head of words"):
        models.of(transformers.GPT2Model(gpt2().config))


def test_frozen_parameters_have_no_gradients_to_count():
    model = gpt2()
    model.transformer.wte.requires_grad_(requires_grad=False)
    with pytest.raises(QuestionError, match=r"frozen parameters.* flops_per_token"):
        models.of(model)


def test_parameters_that_no_configuration_describes_are_refused():
    model = gpt2()
    model.transformer.adapter = torch.nn.Linear(4, 4)
    described = flops.parameters(models.of(model.config)).total
    said = f"has {described + 20:,} parameters, but .* has {described:,}"
    with pytest.raises(QuestionError, match=said):
        models.of(model)


def test_an_error_in_a_configuration_names_its_class_and_field():
    config = gpt2().config
    config.n_head = 3
    with pytest.raises(QuestionError, match="GPT2Config: n_head = 3 must divide"):
        models.of(config)
