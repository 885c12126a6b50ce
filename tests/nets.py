"""Modules of one's own, for the tests of those who measure them."""

import torch
import transformers
from lora import Adapted
from torch import nn

from gptbench import presets
from gptbench.worker.model import GPT

transformers.logging.set_verbosity_error()


def own_gpt():
    """The project's own model, which the byte ledger predicts."""
    return GPT(presets.load("gptfromscratch-rope"))


def adapted():
    """The same with every weight frozen, and an adapter of rank 8 beside each attn.qkv."""
    model = own_gpt().requires_grad_(False)
    for block in model.blocks:
        block.attn.qkv = Adapted(block.attn.qkv, rank=8)
    return model


def hugging_face():
    sizes = {"n_layer": 2, "n_embd": 64, "n_head": 2, "n_positions": 64, "vocab_size": 500}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes))


class Encoder(nn.Module):
    """Positions are registered before tokens, and have more rows."""

    def __init__(self):
        super().__init__()
        self.positions = nn.Embedding(64, 32)
        self.tokens = nn.Embedding(20, 32)
        layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 20)

    def forward(self, ids):
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        return self.head(self.layers(x))


class Classifier(nn.Module):
    """Labels are looked up among the classes of the loss."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(8 * 6 * 6, 7)

    def forward(self, images, labels):
        return nn.functional.cross_entropy(self.head(self.body(images)), labels)


class Reads(nn.Linear):
    """Reads numbers, which tensors without any cannot tell."""

    def __init__(self):
        super().__init__(8, 5)

    def forward(self, x):
        return super().forward(x) * (2.0 if x.sum().item() > 0 else 1.0)


class Wrong(nn.Linear):
    """Fails in its forward for a batch of over two."""

    def __init__(self):
        super().__init__(8, 5)

    def forward(self, x):
        return super().forward(x) if len(x) < 3 else super().forward(x[:, :7])


class WrongBackward(torch.autograd.Function):
    @staticmethod
    def forward(_ctx, x):
        return x * 1

    @staticmethod
    def backward(_ctx, gradient):
        if gradient.device.type == "meta":
            return gradient
        raise ValueError("not today")


class FailsBackward(nn.Linear):
    def __init__(self):
        super().__init__(8, 5)

    def forward(self, x):
        return WrongBackward.apply(super().forward(x))


def frozen():
    return nn.Linear(8, 5).requires_grad_(False)


def mlp():
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


ALREADY_MADE = mlp()
