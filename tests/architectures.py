"""Models and workloads drawn at random, for hypothesis: everything that can be, small."""

from hypothesis import strategies as st

from gptbench.config import ModelConfig, Workload

CONTEXT = 48


@st.composite
def attention(draw):
    kv_heads = draw(st.integers(1, 3))
    facts = {
        "n_heads": kv_heads * draw(st.integers(1, 3)),
        "n_kv_heads": kv_heads,
        "d_head": 2 * draw(st.integers(1, 4)),
        "d_value": draw(st.sampled_from([0, 3, 8])),
        "qkv_bias": draw(st.booleans()),
        "out_bias": draw(st.booleans()),
        "out_proj": draw(st.booleans()),
        "qk_norm": draw(st.sampled_from(["none", "head", "width"])),
        "attention_sinks": draw(st.booleans()),
    }
    positions = draw(st.sampled_from(["learned", "rotary", "none"]))
    if positions == "learned":
        facts["position_rows"] = draw(st.sampled_from([0, CONTEXT + 2]))
    if positions == "rotary":
        facts["d_rotary"] = draw(st.sampled_from([0, 2]))
    return {**facts, "positions": positions}


@st.composite
def norms(draw):
    scale = draw(st.booleans())
    kind = draw(st.sampled_from(["layernorm", "rmsnorm"]))
    placement = draw(st.sampled_from(["pre", "output", "sandwich", "post"]))
    return {
        "norm": kind,
        "norm_scale": scale,
        "norm_bias": kind == "layernorm" and scale and draw(st.booleans()),
        "norm_placement": placement,
        "final_norm": draw(st.booleans()),
        "parallel_block": placement != "post" and draw(st.booleans()),
    }


@st.composite
def experts(draw, n_layers):
    n_experts = draw(st.sampled_from([0, 1, 3, 5]))
    if not n_experts:
        return {}
    dense = draw(st.sets(st.integers(0, n_layers - 1)))
    return {
        "n_experts": n_experts,
        "top_k": draw(st.integers(1, n_experts)),
        "d_expert": draw(st.sampled_from([0, 7])),
        "d_shared": draw(st.sampled_from([0, 6])),
        "router_bias": draw(st.booleans()),
        "dense_layers": tuple(sorted(dense)),
    }


@st.composite
def models(draw):
    """Every kind of model that worker/model.py runs."""
    n_layers = draw(st.integers(1, 4))
    heads = draw(attention())
    width = heads["n_heads"] * (heads["d_value"] or heads["d_head"])
    tied = draw(st.booleans())
    windows = st.lists(st.sampled_from([0, 1, 5, 1000]), max_size=n_layers)
    return ModelConfig(
        name="any",
        n_layers=n_layers,
        d_model=draw(st.integers(1, 40)) if heads["out_proj"] else width,
        d_embed=draw(st.sampled_from([0, 5])),
        n_ctx=CONTEXT,
        vocab_size=draw(st.integers(1, 60)),
        windows=tuple(draw(windows)),
        d_ff=draw(st.integers(1, 40)),
        activation=draw(st.sampled_from(["gelu", "gelu_tanh", "relu", "silu"])),
        gated=draw(st.booleans()),
        mlp_bias=draw(st.booleans()),
        tied_head=tied,
        head_bias=not tied and draw(st.booleans()),
        **heads,
        **draw(norms()),
        **draw(experts(n_layers)),
    )


@st.composite
def latent_models(draw):
    """Models with latent attention, which are counted alone."""
    n_heads, d_head = draw(st.integers(1, 4)), 2 * draw(st.integers(1, 6))
    return ModelConfig(
        name="latent",
        n_layers=draw(st.integers(1, 4)),
        d_model=draw(st.integers(1, 40)),
        n_heads=n_heads,
        d_head=d_head,
        d_value=draw(st.integers(1, 9)),
        d_rotary=2 * draw(st.integers(1, d_head // 2)),
        kv_rank=draw(st.integers(1, 9)),
        q_rank=draw(st.sampled_from([0, 6])),
        n_ctx=CONTEXT,
        vocab_size=draw(st.integers(1, 60)),
        positions="rotary",
        qkv_bias=draw(st.booleans()),
        gated=True,
    )


@st.composite
def workloads(draw):
    """Every mode, packed or not."""
    mode = draw(st.sampled_from(["train", "forward", "prefill", "decode"]))
    lengths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    packed = mode != "decode" and draw(st.booleans())
    trains = mode == "train"
    return Workload(
        batch_size=draw(st.integers(1, 3)),
        seq_len=sum(lengths),
        seq_lens=tuple(lengths) if packed else (),
        mode=mode,
        recompute=draw(st.sampled_from(["none", "attention", "block"])) if trains else "none",
        grad_accum=draw(st.integers(1, 3)) if trains else 1,
    )
