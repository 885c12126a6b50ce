"""GPT-2 small with every weight frozen, and an adapter of rank 8 (LoRA) beside each attn.qkv.

A factory for `gptbench flops tests/lora.py:gpt2_small`.
"""

from torch import nn

from gptbench import presets
from gptbench.worker.model import GPT


class Adapted(nn.Module):
    """A frozen product with a trained one of low rank beside it (Hu et al. 2021)."""

    def __init__(self, frozen, rank):
        super().__init__()
        self.frozen = frozen
        self.down = nn.Linear(frozen.in_features, rank, bias=False)
        self.up = nn.Linear(rank, frozen.out_features, bias=False)

    def forward(self, x):
        return self.frozen(x) + self.up(self.down(x))


def gpt2_small():
    model = GPT(presets.load("gpt2-small")).requires_grad_(False)
    for block in model.blocks:
        block.attn.qkv = Adapted(block.attn.qkv, rank=8)
    return model
