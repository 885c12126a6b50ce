"""What a training step costs a token, as other people count it: one formula a convention.

The formulas are written in the letters of `flops`, and in

    P = parameters that one token meets (of experts: those it is sent to)
    M = weights that multiply a token, the head's among them
    V' = the vocabulary padded to a multiple of 128, P' = P with it

Where a peer's own code has a rule for other models than GPT-2 (experts, windows, an untied head),
its rule is followed; where it has none, its letters are read as the ledger reads them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from gptbench import flops
from gptbench.config import ModelConfig, Workload
from gptbench.errors import UnknownNameError

# Megatron-LM (--make-vocab-size-divisible-by) and llm.c pad the token table to multiples of this.
VOCABULARY_MULTIPLE = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the formulas are made of, for one model and workload.

    FLOPs a token, forward: `exact` and `causal` from the ledger, with attention in full and as a
    mask keeps it; `attention` and `windowed` of attention alone, as if every query saw T keys, or
    as many of them as its layer's window is wide. The rest are counts of parameters, and sizes.
    """

    exact: float
    causal: float
    attention: int
    windowed: int
    total: int
    P: int
    M: int
    head: int
    router: int
    tokens: int
    positions: int
    padding: int  # of the token table
    tied: bool
    L: int
    D: int
    N: int
    T: int


def terms(model: ModelConfig, work: Workload) -> Terms:
    """The terms of a model that runs `work`."""
    rows, cost = flops.matmuls(model, work), flops.step_flops(model, work)
    counted = flops.parameters(model)
    tables = {v.name: v.parameters for v in flops.vectors(model)}
    weights = {row.name: row.count * row.k * row.n for row in rows}
    kept, length = sum(row.causal_flops for row in rows), work.seq_len
    seen = {window: min(window or length, length) for window in flops.layers_by_window(model)}
    a_key = 2 * model.n_heads * (model.d_head + model.d_value)
    missing = -model.vocab_size % VOCABULARY_MULTIPLE
    return Terms(
        exact=cost.forward / cost.tokens,
        # One division of whole numbers, so that a count that is whole comes out whole.
        causal=cost.forward * kept / (cost.tokens * flops.forward_flops(rows)),
        attention=a_key * model.n_layers * length,
        windowed=a_key * sum(n * seen[w] for w, n in flops.layers_by_window(model).items()),
        total=counted.total,
        P=counted.active,
        M=counted.matmul,
        head=weights["unembed"],
        router=weights.get("moe.router", 0),
        tokens=tables["embed.tokens"],
        positions=tables.get("embed.positions", 0),
        padding=missing * model.d_embed,
        tied=model.tied_head,
        L=model.n_layers,
        D=model.d_model,
        N=model.n_heads,
        T=length,
    )


@dataclass(frozen=True, slots=True)
class Convention:
    """`flops_per_token` gives the FLOPs a token of forward and backward together.

    `formula` is what it comes to for a dense model with a tied head, in letters.
    """

    key: str
    formula: str
    source: str
    flops_per_token: Callable[[Terms], float]


def _exact(t: Terms) -> float:
    return 3 * t.exact


def _exact_causal(t: Terms) -> float:
    return 3 * t.causal


def _six_n(t: Terms) -> float:
    return 6 * t.P


def _six_n_non_embedding(t: Terms) -> float:
    return 6 * (t.M - t.head)


def _kaplan(t: Terms) -> float:
    # 2·L·T·d_attn forward is half of what both products cost: a mask's half, or one of the two.
    return 6 * (t.M - t.head) + 1.5 * t.attention


def _chinchilla(t: Terms) -> float:
    # The look-up as a product with one-hot rows, and 3 FLOPs an entry of the softmax.
    return 6 * (t.M + t.tokens) + 3 * t.attention + 9 * t.L * t.N * t.T


def _palm(t: Terms) -> float:
    return 6 * t.P + 3 * t.attention


def _megatron(t: Terms) -> float:
    return 6 * (t.M - t.router + t.padding) + 1.5 * t.attention


def _nanogpt(t: Terms) -> float:
    return 6 * (t.total - t.positions) + 3 * t.attention


def _nanochat(t: Terms) -> float:
    return 6 * t.M + 3 * t.windowed


def _llmc(t: Terms) -> float:
    tables = 1 if t.tied else 2
    return 6 * (t.total + tables * t.padding) + 6 * t.L * t.D * t.T


def _llm_foundry(t: Terms) -> float:
    looked_up = 0 if t.tied else t.tokens
    return 6 * (t.P - looked_up) + 12 * t.L * t.D * t.T


def _torchtitan(t: Terms) -> float:
    looked_up = 0 if t.tied else t.tokens + t.positions
    return 6 * (t.P - looked_up) + 3 * t.windowed


def _maxtext(t: Terms) -> float:
    return 6 * t.M + 1.5 * t.windowed


def _litgpt(t: Terms) -> float:
    # Attention counts three times for the trained parameters and twice more for the frozen ones,
    # even where there are none of these.
    return 6 * t.total + 20 * t.L * t.D * t.T


TABLE = (
    Convention("exact", "6·M + 12·L·N·H·T", "the ledger, attention in full", _exact),
    Convention(
        "exact_causal",
        "6·M + 6·L·N·H·(T + 1)",
        "the ledger, attention behind a causal mask",
        _exact_causal,
    ),
    Convention("six_n", "6·P", "the rule of thumb", _six_n),
    Convention(
        "six_n_non_embedding",
        "6·(M − V·D)",
        "the same, N as in arXiv:2001.08361",
        _six_n_non_embedding,
    ),
    Convention("kaplan", "6·(M − V·D) + 6·L·N·H·T", "arXiv:2001.08361, section 2.1", _kaplan),
    Convention(
        "chinchilla",
        "6·(M + V·D) + L·N·T·(12·H + 9)",
        "arXiv:2203.15556, appendix F",
        _chinchilla,
    ),
    Convention(
        "palm",
        "6·P + 12·L·N·H·T",
        "arXiv:2204.02311, appendix B",
        _palm,
    ),
    Convention(
        "megatron",
        "6·(M − V·D + V'·D) + 6·L·N·H·T",
        "NVIDIA/Megatron-LM, training.py",
        _megatron,
    ),
    Convention(
        "nanogpt", "6·(P − n_ctx·D) + 12·L·N·H·T", "karpathy/nanoGPT 3adf61e, model.py", _nanogpt
    ),
    Convention("nanochat", "6·M + 12·L·N·H·T", "karpathy/nanochat 92d63d4, gpt.py", _nanochat),
    Convention("llmc", "6·P' + 6·L·D·T", "karpathy/llm.c f1e2ace, train_gpt2.cu", _llmc),
    Convention(
        "llm_foundry",
        "6·P + 12·L·D·T",
        "mosaicml/llm-foundry 8c8dd48, modeling_mpt.py",
        _llm_foundry,
    ),
    Convention(
        "torchtitan",
        "6·P + 12·L·N·H·T",
        "pytorch/torchtitan b5bcd76, models/utils.py",
        _torchtitan,
    ),
    Convention(
        "maxtext",
        "6·M + 6·L·N·H·T",
        "AI-Hypercomputer/maxtext, since #1988",
        _maxtext,
    ),
    Convention("litgpt", "6·P + 20·L·D·T", "Lightning-AI/litgpt 2685705, utils.py", _litgpt),
)
BY_KEY = {convention.key: convention for convention in TABLE}
EXACT = BY_KEY["exact"]


# Peers whose own code adds a whole forward pass, head and all, for blocks that are run again.
WHOLE_FORWARD = ("llm_foundry",)


def recomputed_share(model: ModelConfig, work: Workload, convention: Convention = EXACT) -> float:
    """FLOPs that are computed again, as a share of the model FLOPs of the step.

    The ledger's, which like Megatron-LM's paper leaves the head out of 'block', unless the
    convention has a rule of its own. 'attention' is 4·L·N·H·T a token (Korthikanti et al., eq. 9,
    have three times as much).
    """
    if work.recompute == "block" and convention.key in WHOLE_FORWARD:
        return 1 / 3
    cost = flops.step_flops(model, work)
    return cost.recompute / cost.step


def named(key: str) -> Convention:
    """The convention of a key. Raises UnknownNameError with the nearest keys."""
    if key not in BY_KEY:
        see = "'gptbench flops MODEL --conventions' shows them all."
        raise UnknownNameError("convention", key, BY_KEY, see)
    return BY_KEY[key]


def counts(model: ModelConfig, work: Workload) -> dict[str, float]:
    """FLOPs a token of `work` under every convention, by key.

    A pass that only runs forward costs a third of a training step in each.
    """
    found = terms(model, work)
    passes = 3 if work.mode == "train" else 1
    return {c.key: c.flops_per_token(found) * passes / 3 for c in TABLE}
