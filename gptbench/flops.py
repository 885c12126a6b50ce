"""The ledger: every matrix product of a model's forward pass, one row each.

Legend, for every formula of this module:

    B = batch_size   T = seq_len    L = n_layers   V = vocab_size
    D = d_model      F = d_ff       H = d_head     N = n_heads

A row (count, m, k, n) is `count` products of an [m, k] by a [k, n] matrix, which cost 2·m·k·n
FLOPs each: one multiply and one add a term, so a multiply-add is 2 FLOPs and never 1. Attention is
counted in full, as PaLM (Chowdhery et al. 2022, arXiv:2204.02311, App. B), nanoGPT and Megatron-LM
do; what a causal mask keeps of it is counted beside it. Norms, softmax, activations, biases and
embedding look-ups are O(B·T·D) and are left out, as there: they cost bytes, not FLOPs.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from gptbench.config import ModelConfig, Workload


@dataclass(frozen=True, slots=True)
class Matmul:
    """`count` products [m, k] x [k, n]; `weights` of the right-hand matrices are parameters.

    `causal_macs` is how many of the row's multiply-adds a causal mask keeps; None: no mask.
    """

    name: str
    count: int
    m: int
    k: int
    n: int
    weights: int = 0
    bias: bool = False
    causal_macs: int | None = None

    @property
    def flops(self) -> int:
        """Forward FLOPs, attention in full."""
        return 2 * self.count * self.m * self.k * self.n

    @property
    def causal_flops(self) -> int:
        """Forward FLOPs that a causal mask keeps."""
        return self.flops if self.causal_macs is None else 2 * self.causal_macs

    @property
    def parameters(self) -> int:
        """Weights and biases of the row; a matrix shared with another table counts nowhere here."""
        return self.weights * (self.k * self.n + (self.n if self.bias else 0))


@dataclass(frozen=True, slots=True)
class Vectors:
    """Parameters that meet no matrix product: look-up tables and norms. `count` x `size` numbers."""

    name: str
    count: int
    size: int

    @property
    def parameters(self) -> int:
        return self.count * self.size


@dataclass(frozen=True, slots=True)
class Parameters:
    """`non_embedding` leaves out what has a row for each token or position: both tables, the head.

    That is N of Kaplan et al. 2020 (arXiv:2001.08361, section 2.1), the same for a tied and an
    untied head. `active` is what one token meets; `matmul` are the weights that multiply it.
    """

    total: int
    non_embedding: int
    active: int
    matmul: int


def matmuls(model: ModelConfig, work: Workload) -> tuple[Matmul, ...]:
    """The forward pass of `work` as rows, in the order in which the model runs them."""
    B, T = work.batch_size, work.seq_len
    L, D, F, V = model.n_layers, model.d_model, model.d_ff, model.vocab_size
    N, H = model.n_heads, model.d_head
    kept = L * B * N * H * causal_pairs(T)
    head = 0 if model.tied_head else 1
    rows = (
        #       name           count      m      k      n          weights  bias
        Matmul("attn.qkv",     L,         B * T, D,     3 * N * H, L,       model.qkv_bias),
        Matmul("attn.scores",  L * B * N, T,     H,     T,         0,       causal_macs=kept),
        Matmul("attn.values",  L * B * N, T,     T,     H,         0,       causal_macs=kept),
        Matmul("attn.out",     L,         B * T, N * H, D,         L,       model.out_bias),
        Matmul("mlp.up",       L,         B * T, D,     F,         L,       model.mlp_bias),
        Matmul("mlp.down",     L,         B * T, F,     D,         L,       model.mlp_bias),
        Matmul("unembed",      1,         B * T, D,     V,         head,    model.head_bias),
    )  # fmt: skip
    return tuple(row for row in rows if model.out_proj or row.name != "attn.out")


def causal_pairs(seq_len: int) -> int:
    """(query, key) pairs that a causal mask keeps: query t sees t keys, T·(T+1)/2 in all."""
    return seq_len * (seq_len + 1) // 2


def vectors(model: ModelConfig) -> tuple[Vectors, ...]:
    """The parameters beside the matrix products: token and position tables, norms."""
    positions = model.n_ctx if model.positions == "learned" else 0
    return (
        Vectors("embed.tokens", model.vocab_size, model.d_model),
        Vectors("embed.positions", positions, model.d_model),
        # Two norms a block and one before the head, each with a scale and a shift.
        Vectors("norms", 2 * (2 * model.n_layers + 1), model.d_model),
    )


def parameters(model: ModelConfig) -> Parameters:
    """Parameter counts of the model, from the same rows as its FLOPs."""
    rows = matmuls(model, Workload(batch_size=1, seq_len=1))
    tables = {v.name: v.parameters for v in vectors(model)}
    total = sum(row.parameters for row in rows) + sum(tables.values())
    vocabulary = sum(row.parameters for row in rows if row.name == "unembed")
    return Parameters(
        total=total,
        non_embedding=total - vocabulary - tables["embed.tokens"] - tables["embed.positions"],
        active=total,
        # At one token a row's products are as many as its matrices, a tied head's among them.
        matmul=sum(r.count * r.k * r.n for r in rows if not r.name.startswith(ATTENTION_CORE)),
    )


ATTENTION_CORE = ("attn.scores", "attn.values")


def forward_flops(rows: Iterable[Matmul]) -> int:
    """Model FLOPs of one forward pass, attention in full."""
    return sum(row.flops for row in rows)


def backward_flops(rows: Iterable[Matmul]) -> int:
    """Model FLOPs of the backward pass: one product for the gradient of each of two operands.

    With the forward pass this equals B·T·(6P + 12·L·N·H·T), P = the weights that meet the token
    stream (Chowdhery et al. 2022, App. B).
    """
    return 2 * forward_flops(rows)


@dataclass(frozen=True, slots=True)
class StepFlops:
    """FLOPs of one step. `step` are model FLOPs; `hardware` adds what is computed again."""

    forward: int
    backward: int
    recompute: int
    tokens: int

    @property
    def step(self) -> int:
        return self.forward + self.backward

    @property
    def hardware(self) -> int:
        return self.step + self.recompute

    @property
    def per_token(self) -> float:
        return self.step / self.tokens


def step_flops(model: ModelConfig, work: Workload) -> StepFlops:
    """FLOPs of one step of `work`: forward alone, or forward and backward in training."""
    rows = matmuls(model, work)
    return StepFlops(
        forward=forward_flops(rows),
        backward=backward_flops(rows) if work.mode == "train" else 0,
        recompute=0,
        tokens=work.tokens,
    )


def counted(found: Parameters) -> dict[str, int]:
    """Parameter counts under the keys that the JSON answers publish."""
    return {
        "total": found.total,
        "non_embedding": found.non_embedding,
        "active": found.active,
    }


def costed(cost: StepFlops) -> dict[str, float]:
    """FLOPs of a step under the keys that the JSON answers publish."""
    return {
        "forward": cost.forward,
        "backward": cost.backward,
        "recompute": cost.recompute,
        "step": cost.step,
        "per_token": cost.per_token,
    }


def document(model: ModelConfig, work: Workload) -> dict[str, Any]:
    """The published JSON of `gptbench flops`, without the checks."""
    rows = matmuls(model, work)
    passes = 2 if work.mode == "train" else 0
    components = [
        {
            "name": row.name,
            "count": row.count,
            "m": row.m,
            "k": row.k,
            "n": row.n,
            "forward": row.flops,
            "backward": passes * row.flops,
            "parameters": row.parameters,
        }
        for row in rows
    ]
    tables = [
        {
            "name": v.name,
            "count": v.count,
            "forward": 0,
            "backward": 0,
            "parameters": v.parameters,
        }
        for v in vectors(model)
        if v.parameters
    ]
    return {
        "model": asdict(model),
        "workload": {
            "mode": work.mode,
            "batch_size": work.batch_size,
            "seq_len": work.seq_len,
        },
        "parameters": counted(parameters(model)),
        "flops": costed(step_flops(model, work)),
        "components": components + tables,
    }
