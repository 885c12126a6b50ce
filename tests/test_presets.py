"""Preset files: what reads, and what is said about what does not."""

import pytest

from gptbench import presets
from gptbench.errors import QuestionError, UnknownNameError

GOOD = """\
# a comment
[mine]
n_layers = 2
d_model = 12
n_heads = 3
n_ctx = 8
vocab_size = 11
"""


@pytest.fixture
def preset(tmp_path):
    def write(text):
        path = tmp_path / "mine.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def refusal(path):
    with pytest.raises(QuestionError) as caught:
        presets.load(str(path))
    return str(caught.value)


def test_a_preset_is_found_by_name():
    model = presets.load("gpt2-xl")
    # Radford et al. 2019, Table 2.
    assert (model.name, model.n_layers, model.d_model) == ("gpt2-xl", 48, 1600)


@pytest.mark.parametrize("name", presets.catalogue())
def test_every_preset_of_the_catalogue_loads_by_name(name):
    assert presets.load(name) == presets.catalogue()[name]


def test_every_preset_file_says_where_it_is_from():
    assert all(p.read_text("utf-8").startswith("# ") for p in presets.PRESETS.glob("*.toml"))


def test_a_file_with_one_table_is_a_model(preset):
    assert presets.load(str(preset(GOOD))).name == "mine"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("gpt2-xxl", "'gpt2-xl'"), ("GPT2-XL", "'gpt2-xl'"), ("mingpt", "'minigpt'")],
)
def test_an_unknown_preset_is_answered_with_the_nearest(name, nearest):
    with pytest.raises(UnknownNameError, match=f"unknown model {name!r}. Nearest:.*{nearest}"):
        presets.load(name)


@pytest.mark.parametrize("name", ["", "zzzzzz", "[", "]\n["])
def test_a_name_like_no_other_is_refused_too(name):
    with pytest.raises(UnknownNameError):
        presets.load(name)


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("n_layers = 2", "n_layers = two", 3, "malformed TOML"),
        ("n_layers = 2", 'n_layers = "two"', 3, "n_layers = 'two' is not a whole number"),
        ("n_layers = 2", "n_layers = true", 3, "n_layers = True is not a whole number"),
        ("n_layers = 2", "n_layers = 2.5", 3, "n_layers = 2.5 is not a whole number"),
        ("n_ctx = 8\n", "", 2, "n_ctx"),
        ("n_ctx = 8", "n_ctx = 8\nn_layer = 2", 7, "unknown key 'n_layer'. Nearest: 'n_layers'"),
        ("n_heads = 3", "n_heads = 5", 5, "n_heads = 5 must divide d_model = 12"),
        ("n_ctx = 8", "n_ctx = 0", 6, "n_ctx = 0 must be at least 1"),
        (
            "n_ctx = 8",
            'n_ctx = 8\npositions = "sideways"',
            7,
            "positions = 'sideways' is not one of",
        ),
        ("[mine]\n", "n_ctx = 1\n[mine]\n", 2, "n_ctx stands outside of a table"),
        ("n_ctx = 8", "n_ctx = 8\nn_ctx = 9", 7, "malformed TOML"),
    ],
)
def test_a_broken_file_is_refused_with_its_name_line_and_key(preset, old, new, line, said):
    message = refusal(path := preset(GOOD.replace(old, new)))
    assert said in message
    assert f"{path}:{line}" in message or f"{path}: malformed TOML" in message
    assert "malformed" not in message or f"line {line}" in message


def test_a_key_is_blamed_in_its_own_table(preset):
    text = GOOD + GOOD.replace("mine", "other").replace("n_heads = 3", 'n_heads = "x"')
    with pytest.raises(QuestionError, match=r"mine\.toml:12: model 'other': n_heads"):
        presets.read(preset(text))


@pytest.mark.parametrize(
    ("text", "held"), [("", "0: none"), (GOOD + GOOD.replace("[m", "[n"), "2:")]
)
def test_a_file_must_hold_one_model_to_be_one(preset, text, held):
    assert f"must hold one model, but holds {held}" in refusal(preset(text))


def test_a_file_that_is_no_text_is_refused_with_its_name(preset):
    assert "mine.toml': it is not UTF-8 text" in refusal(preset(b"\xff\xfe\x00"))


def test_a_file_nested_beyond_reason_is_refused_with_its_name(preset):
    assert "mine.toml" in refusal(preset("x = " + "[" * 100_000))


def test_a_file_that_is_not_there_is_refused_with_the_systems_reason(tmp_path):
    assert "none.toml': No such file or directory" in refusal(tmp_path / "none.toml")


def test_a_folder_is_no_preset_file(tmp_path):
    (tmp_path / "folder.toml").mkdir()
    assert "folder.toml': Is a directory" in refusal(tmp_path / "folder.toml")
