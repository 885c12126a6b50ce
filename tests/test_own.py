"""Someone's own module as a model: its batch, its units, and what is refused."""

import msgspec
import pytest

from gptbench import throughput
from gptbench.errors import QuestionError
from gptbench.inputs import Input, given
from gptbench.own import OwnModule, read

IDS = Input(shape=(8, 1024))
MASK = Input(name="mask", shape=(8, 1, 1024, 1024), dtype="bool")
SCALE = Input(name="scale", shape=(1,), dtype="float32")


def module(*inputs):
    return OwnModule(name="net:build", inputs=inputs)


def test_another_batch_replaces_the_first_dimension_wherever_it_is_the_same():
    shapes = [i.shape for i in module(IDS, MASK, SCALE).with_batch(3).inputs]
    assert shapes == [(3, 1024), (3, 1, 1024, 1024), (1,)]


def test_another_batch_leaves_names_types_and_ranges_as_they_are():
    ids = Input(name="ids", shape=(8, 4), dtype="int32", below=50)
    assert module(ids).with_batch(2).inputs == (
        Input(name="ids", shape=(2, 4), dtype="int32", below=50),
    )


@pytest.mark.parametrize(
    ("first", "tokens", "unit"),
    [
        (Input(shape=(8, 1024)), 1024, "token"),
        (Input(shape=(8,)), 1, "token"),
        (Input(shape=(8, 3, 224, 224), dtype="float32"), 1, "sample"),
        (Input(shape=(8, 16), dtype="bool"), 1, "sample"),
    ],
    ids=str,
)
def test_token_ids_are_counted_in_tokens_and_everything_else_in_samples(first, tokens, unit):
    assert (module(first).row_tokens, module(first).unit) == (tokens, unit)


def test_the_inputs_of_a_person_are_the_first_by_position_and_others_by_name():
    assert given("8x1024", None, ["mask=8x1x1024x1024:bool"]) == (IDS, MASK)


def test_a_type_without_a_shape_is_refused():
    with pytest.raises(QuestionError, match="--input-dtype fp32 needs --input-shape"):
        given(None, "fp32", [])


def test_a_module_without_an_input_is_refused_with_what_to_type():
    with pytest.raises(QuestionError, match=r"'net:build' needs an input\. Type --input-shape"):
        read("net:build", ())


def asked(**words):
    return throughput.read(throughput.Question(command="gptbench throughput", **words))


OWN = {"model": "net:build", "inputs": (IDS,)}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"model": "net:build"}, "needs an input"),
        ({**OWN, "seq_len": 512}, "--seq-len is for presets"),
        ({**OWN, "attention": "math"}, "--attention is for presets"),
        ({**OWN, "recompute": "block"}, "--recompute is for presets"),
        ({**OWN, "grad_accum": 2}, "--grad-accum is for presets"),
        ({**OWN, "model": "no_such_file.py:build"}, "unknown file 'no_such_file.py'"),
        ({**OWN, "batch_size": 4, "auto_batch": "largest"}, "contradict"),
        ({**OWN, "model": "scratchgpt"}, "--input-shape and --input are for a module:factory"),
    ],
    ids=str,
)
def test_a_question_that_is_not_for_the_model_is_refused(words, says):
    with pytest.raises(QuestionError, match=says):
        asked(**words)


def test_a_batch_size_replaces_that_of_the_shape():
    assert asked(**OWN, batch_size=3).model.inputs[0].shape == (3, 1024)


def test_a_module_without_inputs_cannot_be_read():
    with pytest.raises(msgspec.ValidationError, match="at least one input"):
        msgspec.convert({"name": "net:build", "inputs": []}, OwnModule)
