"""What a step of someone's own module ends in."""

from dataclasses import dataclass

import pytest
import torch
from torch.nn import functional as F

from gptbench.inputs import Input
from gptbench.worker import loss

IDS = torch.tensor([[3, 1, 4, 1], [5, 9, 2, 6]])
LOOKED_UP = Input(shape=(2, 4), below=10)


def floats(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()


@dataclass
class Output:
    logits: torch.Tensor
    loss: torch.Tensor | None = None


def test_what_the_module_calls_its_loss_is_the_loss():
    own = floats(1)[0]
    found = loss.of(Output(floats(2, 4, 10), own), LOOKED_UP, IDS)
    assert (found.value.item(), found.rule) == (own.item(), "the loss that the module returns")


def test_an_output_without_dimensions_is_the_loss():
    own = floats(1)[0]
    assert loss.of((floats(2, 4, 10), own), LOOKED_UP, IDS).value.item() == own.item()


def test_logits_have_the_cross_entropy_of_the_next_token():
    """By hand: the mean of -log softmax at the id that follows, over all positions but the last."""
    logits = floats(2, 4, 10)
    log_p = logits.log_softmax(-1)
    by_hand = -torch.stack([log_p[b, t, IDS[b, t + 1]] for b in range(2) for t in range(3)]).mean()
    found = loss.of(Output(logits), LOOKED_UP, IDS)
    torch.testing.assert_close(found.value, by_hand)


@pytest.mark.parametrize("width", [9, 4])
def test_hidden_states_are_no_logits(width):
    """Narrower than the vocabulary: the next id would not be among their classes."""
    states = floats(2, 4, width)
    torch.testing.assert_close(loss.of(states, LOOKED_UP, IDS).value, states.square().mean())


def test_anything_else_has_the_mean_of_its_squares():
    first, second = floats(2, 3), floats(5)
    found = loss.of({"a": first, "b": [second]}, Input(shape=(2, 4), dtype="float32"), first)
    torch.testing.assert_close(found.value, first.square().mean() + second.square().mean())


def test_outputs_that_need_no_gradient_have_no_loss_where_gradients_are_made():
    assert loss.of(floats(2, 3).argmax(-1), LOOKED_UP, IDS) is None


def test_without_gradients_the_rule_is_the_same():
    logits = floats(2, 4, 10).detach()
    with torch.inference_mode():
        found = loss.of(logits, LOOKED_UP, IDS)
    targets = F.pad(IDS[:, 1:], (0, 1), value=-100)
    torch.testing.assert_close(found.value, F.cross_entropy(logits.mT, targets))
