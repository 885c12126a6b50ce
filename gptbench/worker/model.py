"""A GPT from scratch, all of it in this file.

    tokens ─> token table + position table ─> n_layers x Block ─> norm ─> head ─> logits
    Block:    x + attention(norm(x)), then x + mlp(norm(x))

References: Vaswani et al. 2017 (arXiv:1706.03762) for attention; Radford et al. 2019 (GPT-2) for
norms in front of each part and the scaled initialisation; Su et al. 2021 (arXiv:2104.09864) for
rotary positions.

Letters in tensor names are their dimensions, in order:

    B = batch_size   T = seq_len   D = d_model   N = n_heads   H = d_head   V = vocab_size
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptbench.config import Attention, ModelConfig


class GPT(nn.Module):
    """A decoder-only transformer: token ids [B, T] in, logits [B, T, V] out."""

    def __init__(self, config: ModelConfig, attention: Attention = "fused") -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.d_model)
        if config.positions == "learned":
            self.positions = nn.Embedding(config.n_ctx, config.d_model)
        self.blocks = nn.ModuleList(Block(config, attention) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model, eps=config.norm_eps)
        self.unembed = nn.Linear(config.d_model, config.vocab_size, bias=config.head_bias)
        if config.tied_head:
            self.unembed.weight = self.tokens.weight
        self.apply(_initialise)
        self._shrink_residual_branches()

    def forward(self, tokens_BT: Tensor) -> Tensor:
        x_BTD = self.tokens(tokens_BT)
        if self.config.positions == "learned":
            x_BTD = x_BTD + self.positions.weight[: tokens_BT.shape[1]]
        for block in self.blocks:
            x_BTD = block(x_BTD)
        logits_BTV: Tensor = self.unembed(self.norm(x_BTD))
        return logits_BTV

    def _shrink_residual_branches(self) -> None:
        """Scale what is added to the stream by 1/√(2·n_layers), so that its variance stays."""
        for name, weight in self.named_parameters():
            if name.endswith(("attn.out.weight", "mlp.down.weight")):
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * self.config.n_layers))


class Block(nn.Module):
    """One layer: attention, then an MLP, each added to the stream it read through a norm."""

    def __init__(self, config: ModelConfig, attention: Attention) -> None:
        super().__init__()
        self.norm_attn = nn.LayerNorm(config.d_model, eps=config.norm_eps)
        self.attn = SelfAttention(config, attention)
        self.norm_mlp = nn.LayerNorm(config.d_model, eps=config.norm_eps)
        self.mlp = MLP(config)

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_BTD = x_BTD + self.attn(self.norm_attn(x_BTD))
        y_BTD: Tensor = x_BTD + self.mlp(self.norm_mlp(x_BTD))
        return y_BTD


class SelfAttention(nn.Module):
    """Causal multi-head attention: each token mixes the values of the tokens up to itself."""

    def __init__(self, config: ModelConfig, attention: Attention) -> None:
        super().__init__()
        self.n_heads, self.d_head = config.n_heads, config.d_head
        width = config.n_heads * config.d_head
        # One product instead of three; its rows are the queries of all heads, keys, values.
        self.qkv = nn.Linear(config.d_model, 3 * width, bias=config.qkv_bias)
        self.core = {"fused": fused_attention, "math": written_out_attention}[attention]
        self.rotary = Rotary(config) if config.positions == "rotary" else None
        self.out: nn.Linear | None = None
        if config.out_proj:
            self.out = nn.Linear(width, config.d_model, bias=config.out_bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        B, T, _ = x_BTD.shape
        qkv_BTXNH = self.qkv(x_BTD).view(B, T, 3, self.n_heads, self.d_head)
        q_BNTH, k_BNTH, v_BNTH = qkv_BTXNH.permute(2, 0, 3, 1, 4).unbind(0)
        if self.rotary is not None:
            q_BNTH, k_BNTH = self.rotary(q_BNTH), self.rotary(k_BNTH)
        mixed_BNTH = self.core(q_BNTH, k_BNTH, v_BNTH)
        mixed_BTD = mixed_BNTH.transpose(1, 2).reshape(B, T, self.n_heads * self.d_head)
        if self.out is None:
            return mixed_BTD
        output_BTD: Tensor = self.out(mixed_BTD)
        return output_BTD


def fused_attention(q_BNTH: Tensor, k_BNTH: Tensor, v_BNTH: Tensor) -> Tensor:
    """One kernel that never writes the [T, T] scores to memory."""
    return F.scaled_dot_product_attention(q_BNTH, k_BNTH, v_BNTH, is_causal=True)


def written_out_attention(q_BNTH: Tensor, k_BNTH: Tensor, v_BNTH: Tensor) -> Tensor:
    """The same by the book: softmax(q kᵀ / √H) v, with the future masked away."""
    T, H = q_BNTH.shape[-2:]
    scores_BNTT = q_BNTH @ k_BNTH.transpose(-2, -1) / math.sqrt(H)
    future_TT = torch.ones(T, T, dtype=torch.bool, device=q_BNTH.device).triu(1)
    weights_BNTT = scores_BNTT.masked_fill(future_TT, -math.inf).softmax(dim=-1)
    return weights_BNTT.to(v_BNTH.dtype) @ v_BNTH


class Rotary(nn.Module):
    """Rotary positions: turn each pair of a head's numbers by an angle that grows with position.

    Pairs are (i, i + H/2), as in GPT-NeoX and Llama.
    """

    cos_TH: Tensor
    sin_TH: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        exponents = torch.arange(0, config.d_head, 2, dtype=torch.float32) / config.d_head
        angles = torch.outer(torch.arange(config.n_ctx).float(), config.rotary_base**-exponents)
        angles_TH = torch.cat((angles, angles), dim=-1)
        self.register_buffer("cos_TH", angles_TH.cos(), persistent=False)
        self.register_buffer("sin_TH", angles_TH.sin(), persistent=False)

    def forward(self, x_BNTH: Tensor) -> Tensor:
        T = x_BNTH.shape[-2]
        first, second = x_BNTH.chunk(2, dim=-1)
        turned_BNTH = torch.cat((-second, first), dim=-1)
        turned = x_BNTH * self.cos_TH[:T] + turned_BNTH * self.sin_TH[:T]
        return turned.to(x_BNTH.dtype)


class MLP(nn.Module):
    """Each token on its own: widen, bend, narrow."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.d_model, config.d_ff, bias=config.mlp_bias)
        self.activation = activation(config)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=config.mlp_bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        y_BTD: Tensor = self.down(self.activation(self.up(x_BTD)))
        return y_BTD


def activation(config: ModelConfig) -> nn.Module:
    """The nonlinearity between the MLP's two products."""
    modules: dict[str, nn.Module] = {
        "gelu": nn.GELU(),
        "gelu_tanh": nn.GELU(approximate="tanh"),
        "relu": nn.ReLU(),
    }
    return modules[config.activation]


def next_token_loss(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """Mean cross-entropy of the next token, in float32 whatever the logits are."""
    return F.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_BT.flatten())


def _initialise(module: nn.Module) -> None:
    """GPT-2's: normal weights of 0.02, no biases."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
