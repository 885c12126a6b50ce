"""Three operations worked out on paper: what is alive when, forward and backward."""

import pytest

from gptbench.tape import Operation, Tape, Tensor

# x [4] -> a = f(x) [6] -> b = g(a) [10], which keeps a and 3 bytes of its own -> c = h(b) [2],
# which keeps b. Every number is a byte; f has 5 of weights, g works with 7 backward, h with 1.
X, A, B, C = (Tensor((numbers,), 1) for numbers in (4, 6, 10, 2))
MASK = Tensor((3,), 1)


@pytest.fixture
def tape():
    written = Tape()
    written.add(Operation(outputs=(A,), reads=(X,), differentiated=(X,), weight_bytes=5))
    written.add(
        Operation(
            outputs=(B,),
            reads=(A,),
            differentiated=(A,),
            kept=(("a", A), ("mask", MASK)),
            scratch_backward_bytes=7,
        )
    )
    written.add(
        Operation(
            outputs=(C,),
            reads=(B,),
            differentiated=(B,),
            kept=(("b", B),),
            scratch_forward_bytes=1,
        )
    )
    return written


def test_the_backward_needs_what_operations_keep(tape):
    assert [(row.name, row.size_bytes) for row in tape.kept()] == [("a", 6), ("mask", 3), ("b", 10)]
    assert tape.kept_bytes == 19


def test_forward_holds_a_tensor_until_its_last_reader_has_run(tape):
    # f: x 4 + a 6 = 10. g: a 6 + b 10 = 16. h: b 10 + c 2 + scratch 1 = 13.
    assert tape.forward_peak_bytes(keeping=False) == 16


def test_forward_holds_what_is_kept_to_the_end(tape):
    # h: a 6 + mask 3 + b 10 + c 2 + scratch 1 = 22.
    assert tape.forward_peak_bytes(keeping=True) == 22


def test_backward_frees_what_is_kept_with_its_last_keeper(tape):
    # h: c' 2 + b' 10 + kept 19 = 31. g: b' 10 + a' 6 + kept 9 + scratch 7 = 32.
    # f: a' 6 + x' 4 + its weights' 5 = 15.
    assert tape.backward_peak_bytes() == 32


def weighty(tape, weight_bytes):
    """The tape before an operation that keeps nothing and has weights."""
    tape.add(Operation(outputs=(Tensor((1,), 1),), differentiated=(C,), weight_bytes=weight_bytes))
    return tape


def test_gradients_of_weights_stay_while_the_backward_goes_on(tape):
    # The last operation's 20 are there when g runs: 32 + 20.
    assert weighty(tape, 20).backward_peak_bytes() == 52


def test_gradients_that_are_added_to_older_ones_do_not_stay(tape):
    # The last operation itself: its output's gradient 1 + c' 2 + kept 19 + its weights' 20 = 42.
    assert weighty(tape, 20).backward_peak_bytes(accumulating=True) == 42


def test_views_of_one_storage_count_once():
    tape, whole = Tape(), Tensor((8,), 2)
    left, right = whole.view(3), whole.view(5)
    tape.add(Operation(outputs=(whole,), kept=(("left", left), ("right", right))))
    assert tape.kept_bytes == 8 * 2
