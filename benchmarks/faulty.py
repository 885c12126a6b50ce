"""A small GPT that is well made, and the same with one fault each.

`gptbench profile benchmarks/faulty.py:reading --input-shape 8x256 --dtype bfloat16`

Its sizes are multiples of 128, its attention one kernel, its batch large enough for its weights.
"""

import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

BATCH, SEQ_LEN, LONGEST = 8, 256, 1024
D_MODEL, N_HEADS, N_LAYERS, VOCAB_SIZE = 512, 8, 2, 512

# What reading a file or a network may cost a batch.
SLEEP_S = 0.2


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(D_MODEL, 3 * D_MODEL)
        self.out = nn.Linear(D_MODEL, D_MODEL)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).unflatten(2, (3, N_HEADS, -1)).permute(2, 0, 3, 1, 4)
        return self.out(self.mix(*qkv).transpose(1, 2).flatten(2))

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


class WrittenOut(Attention):
    """Fault: the scores are written to memory."""

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        return scores.masked_fill(future, float("-inf")).softmax(-1).to(v.dtype) @ v


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(D_MODEL, 4 * D_MODEL)
        self.activation = nn.GELU()
        self.down = nn.Linear(4 * D_MODEL, D_MODEL)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))


class Float32(nn.Linear):
    """Fault: one layer multiplies in float32 whatever the others do."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


class Block(nn.Module):
    def __init__(self, attention: type[Attention]) -> None:
        super().__init__()
        self.norm_attn, self.attn = nn.LayerNorm(D_MODEL), attention()
        self.norm_mlp, self.mlp = nn.LayerNorm(D_MODEL), MLP()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm_attn(x))
        return x + self.mlp(self.norm_mlp(x))


class Reading(Block):
    """Fault: each layer looks at a number."""

    largest = 0.0

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        self.largest = y.detach().abs().amax().item()
        return y


class GPT(nn.Module):
    def __init__(
        self,
        vocab_size: int = VOCAB_SIZE,
        attention: type[Attention] = Attention,
        block: type[Block] = Block,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, D_MODEL)
        self.positions = nn.Embedding(LONGEST, D_MODEL)
        self.blocks = nn.Sequential(*(block(attention) for _ in range(N_LAYERS)))
        self.norm = nn.LayerNorm(D_MODEL)
        self.head = nn.Linear(D_MODEL, vocab_size, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.tokens(tokens) + self.positions(places)
        return self.head(self.norm(self.blocks(x)))


def healthy() -> nn.Module:
    return GPT()


def reading() -> nn.Module:
    return GPT(block=Reading)


def float32_product() -> nn.Module:
    model = GPT()
    model.blocks[1].mlp.up = Float32(D_MODEL, 4 * D_MODEL)
    return model


class WithLoss(GPT):
    """Its own loss of logits in the format they come in: few passes over many logits."""

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        logits = super().forward(tokens)
        targets = nn.functional.pad(tokens[:, 1:], (0, 1), value=-100)
        with torch.autocast(tokens.device.type, enabled=False):
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return {"loss": loss}


def odd_vocabulary() -> nn.Module:
    return WithLoss(vocab_size=50257)


def written_out() -> nn.Module:
    return GPT(attention=WrittenOut)


def slow_batches() -> Iterator[Tensor]:
    """Fault: every batch is waited for."""
    random = torch.Generator().manual_seed(1)
    while True:
        time.sleep(SLEEP_S)
        yield torch.randint(VOCAB_SIZE, (BATCH, SEQ_LEN), generator=random)
