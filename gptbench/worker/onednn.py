"""Linear layers of float32 by oneDNN, for reading alone: their products have no gradient.

PyTorch gives float32 products on a CPU to MKL, which reads a matrix with one core where it meets a
single row, as every new token is. Compiled code calls oneDNN by the same operator (torch._inductor),
from torch 2.6 to 2.13 at least; where there is none of it, layers stay as they are.
"""

import torch
from torch import Tensor, nn


class OneDNNLinear(nn.Linear):
    """A linear layer with the weights of another."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, device="meta")
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        multiply = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001 - nothing public calls it
        y: Tensor = multiply(x, self.weight, self.bias, "none", [], "")
        return y


def reading(model: nn.Module) -> None:
    """Have the model's linear layers multiply by oneDNN, where they can."""
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Linear and _can(child.weight):
                setattr(module, name, OneDNNLinear(child))


def _can(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32
