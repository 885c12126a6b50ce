"""The exception tree, its exit codes, and how its messages end."""

import re

import pytest

from gptbench import errors
from gptbench.errors import GptbenchError, UnknownNameError


def subclasses(cls):
    for child in cls.__subclasses__():
        yield child
        yield from subclasses(child)


# The codes that the README and the shell scripts of other people rely on.
PROMISED = {
    "QuestionError": 2,
    "UnknownNameError": 2,
    "UnknownSchemaError": 2,
    "UnavailableError": 4,
    "OutOfMemoryError": 4,
    "WorkerDiedError": 4,
    "WorkerHungError": 4,
    "ImpossibleMfuError": 4,
    "NotComparableError": 5,
}


@pytest.mark.parametrize(("name", "code"), PROMISED.items())
def test_every_error_has_its_promised_exit_code(name, code):
    assert getattr(errors, name).exit_code == code


def test_no_error_is_without_a_promised_exit_code():
    ours = {c.__name__ for c in subclasses(GptbenchError) if c.__module__ == errors.__name__}
    assert ours == set(PROMISED)


def test_the_tree_drawn_at_the_top_is_the_tree():
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__))
    assert drawn == set(PROMISED)


def test_outcomes_that_are_no_errors_have_codes_of_their_own():
    codes = (
        errors.EXIT_DONE,
        errors.EXIT_REGRESSED,
        errors.EXIT_INCONCLUSIVE,
        errors.EXIT_INTERRUPTED,
    )
    assert codes == (0, 1, 3, 130)


def test_unknown_name_is_quoted_with_the_nearest_known_one():
    error = UnknownNameError("model", "gpt2-xxl", ["gpt2-xl", "llama"], "See the list.")
    assert str(error) == "unknown model 'gpt2-xxl'. Nearest: 'gpt2-xl'. See the list."


def test_unknown_name_without_a_near_one_gives_no_hint():
    error = UnknownNameError("model", "zzz", ["gpt2-xl"], "See the list.")
    assert str(error) == "unknown model 'zzz'. See the list."


def test_nearest_name_is_found_whatever_the_case():
    assert "'gpt2-xl'" in str(UnknownNameError("model", "GPT2-XL", ["gpt2-xl"], ""))
