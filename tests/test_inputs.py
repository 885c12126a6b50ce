"""Shapes, types and factories as people write them."""

import pytest

from gptbench import inputs
from gptbench.errors import QuestionError
from gptbench.inputs import Input


@pytest.mark.parametrize(
    ("text", "shape"),
    [("1x1024", (1, 1024)), ("8", (8,)), ("1x3x224x224", (1, 3, 224, 224)), ("2,4", (2, 4))],
)
def test_a_shape_is_its_sizes(text, shape):
    assert inputs.parse_shape(text) == shape


@pytest.mark.parametrize("text", ["", "x", "1x", "1 x 2", "-1x2", "1.5", "BxT", "1xx2"])
def test_what_is_no_shape_is_refused(text):
    with pytest.raises(QuestionError, match=r"is no shape. Type one such as 1x1024"):
        inputs.parse_shape(text)


def test_a_tensor_with_nothing_in_it_is_refused():
    with pytest.raises(QuestionError, match="nothing in it"):
        inputs.parse_shape("1x0")


def test_a_tensor_larger_than_pytorch_can_name_is_refused():
    with pytest.raises(QuestionError, match="larger than any tensor"):
        inputs.parse_shape("1073741824x1073741824")


@pytest.mark.parametrize(
    ("text", "dtype"), [("int64", "int64"), ("fp32", "float32"), ("bool", "bool")]
)
def test_a_type_has_its_own_name_or_a_short_one(text, dtype):
    assert inputs.parse_dtype(text) == dtype


def test_a_type_that_is_none_is_named_with_the_nearest():
    with pytest.raises(QuestionError, match=r"unknown type 'flaot32'. Nearest: 'float32'"):
        inputs.parse_dtype("flaot32")


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("targets=1x16", Input(name="targets", shape=(1, 16), dtype="int64")),
        ("mask=1x1x4x4:bool", Input(name="mask", shape=(1, 1, 4, 4), dtype="bool")),
    ],
)
def test_an_argument_has_a_name_a_shape_and_perhaps_a_type(text, given):
    assert inputs.parse_named(text) == given


@pytest.mark.parametrize("text", ["1x16", "=1x16", "two words=1", "targets"])
def test_an_argument_without_a_name_is_refused(text):
    with pytest.raises(QuestionError, match=r"names no argument. Type it as NAME=SHAPE"):
        inputs.parse_named(text)


def test_an_input_reads_as_it_was_written():
    assert str(inputs.parse_named("mask=1x4:bool")) == "mask=1x4:bool"


@pytest.mark.parametrize("text", ["net:", ":build", "net:build()", "net:1"])
def test_half_a_factory_is_refused(text):
    with pytest.raises(QuestionError, match="is no module:factory"):
        inputs.parse_target(text)


def test_a_file_that_is_not_there_is_named_with_the_nearest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text("")
    with pytest.raises(QuestionError, match=r"unknown file 'modle.py'. Nearest: 'model.py'"):
        inputs.parse_target("modle.py:build")
