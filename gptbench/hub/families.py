"""The families: which field of a config.json is which fact of a ModelConfig, a table a family.

What a file leaves out has the default of transformers' own configuration class, to be read in
models/<type>/configuration_<type>.py of release 5.23. A fact comes from a field (size, flag, ...),
from a rule that looks at several, or is the same in all models of the type.
"""

from collections.abc import Callable
from typing import Any

from gptbench.config import MOST_LAYERS
from gptbench.hub.fields import (
    ACTIVATIONS,
    File,
    activation,
    flag,
    maybe_size,
    number,
    pairs,
    rope,
    size,
)

Facts = dict[str, Any]
Rule = Callable[[File, Facts], Any]


# -- rules ------------------------------------------------------------------------------------


def part_of_head(*older: str, default: float) -> Rule:
    """Numbers of a head that turn: the first ones, so many as the factor says."""
    part = rope("partial_rotary_factor", *older, default=default)

    def rule(file: File, facts: Facts) -> int:
        head = facts.get("d_head") or facts["d_model"] // facts["n_heads"]
        if head == 0:
            return 0  # more heads than the stream is wide: ModelConfig says so
        factor = part.value(file)
        turned = int(head * factor) if 0 < factor <= 1 else 0
        if turned < 2 or turned % 2:
            wrong = f"turns {turned} of the {head} numbers of a head, but they turn in pairs"
            raise file.refusal(part.spelling(file), factor, wrong)
        return turned

    return rule


def one_window(default: int | None) -> Rule:
    """The same window in every layer."""
    key = maybe_size("sliding_window", default=default)

    def rule(file: File, _facts: Facts) -> tuple[int, ...]:
        types = file.fields.get("layer_types")
        if types is not None:
            wrong = f"is not counted here: all layers of {file.type!r} have one window"
            raise file.refusal("layer_types", types, wrong)
        window = key.value(file)
        return (window,) if window else ()

    return rule


def window_if_asked(file: File, facts: Facts) -> tuple[int, ...]:
    """The same window in every layer, where use_sliding_window asks for it."""
    asked = flag("use_sliding_window", default=False).value(file)
    window: tuple[int, ...] = one_window(4096)(file, facts)
    return window if asked else ()


def upper_windows(file: File, facts: Facts) -> tuple[int, ...]:
    """Windows in the layers from max_window_layers on, where use_sliding_window asks for them."""
    asked = flag("use_sliding_window", default=False).value(file)
    window = maybe_size("sliding_window", default=4096).value(file) if asked else 0
    first = size("max_window_layers", default=28, least=0).value(file)
    layers = range(facts["n_layers"])
    return _by_layer(file, window, tuple(window > 0 and layer >= first for layer in layers))


def every_other_window(default: int) -> Rule:
    """Windows in the first layer, the third, the fifth."""
    key = maybe_size("sliding_window", default=default)

    def rule(file: File, facts: Facts) -> tuple[int, ...]:
        layers = range(facts["n_layers"])
        return _by_layer(file, key.value(file), tuple(layer % 2 == 0 for layer in layers))

    return rule


def _by_layer(file: File, window: int, usual: tuple[bool, ...]) -> tuple[int, ...]:
    """A window where layer_types says so; where there is none, where the family usually does."""
    types = file.fields.get("layer_types")
    slides = usual if types is None else _sliding(file, types, len(usual))
    if any(slides) and not window:
        if types is None:
            wrong = f"leaves layers without the window that {file.type!r} slides"
            raise file.refusal("sliding_window", file.fields.get("sliding_window"), wrong)
        wrong = "makes layers slide, but no sliding_window is in use"
        raise file.refusal("layer_types", types, wrong)
    return _shortest(tuple(window * slide for slide in slides))


def _sliding(file: File, types: Any, layers: int) -> tuple[bool, ...]:
    known = {"full_attention": False, "attention": False, "sliding_attention": True}
    words = isinstance(types, list) and all(isinstance(t, str) and t in known for t in types)
    if not words:
        wrong = "is not a list of 'full_attention' and 'sliding_attention'"
        raise file.refusal("layer_types", types, wrong)
    if len(types) != layers:
        wrong = f"has {len(types)} entries, but num_hidden_layers is {layers}"
        raise file.refusal("layer_types", types, wrong)
    return tuple(known[t] for t in types)


def _shortest(windows: tuple[int, ...]) -> tuple[int, ...]:
    """The shortest beginning that says all layers' windows when it is repeated; (): no windows."""
    if not any(windows):
        return ()
    periods = range(1, len(windows))
    repeats = (n for n in periods if windows[n:] == windows[:-n])
    return windows[: next(repeats, len(windows))]


def sparse_layers(file: File, facts: Facts) -> tuple[int, ...]:
    """The dense layers of a qwen3_moe: those that are named, and all but every n-th."""
    named = file.fields.get("mlp_only_layers") or []
    if not isinstance(named, list) or not all(type(layer) is int for layer in named):
        raise file.refusal("mlp_only_layers", named, "is not a list of whole numbers")
    step = size("decoder_sparse_step", default=1).value(file)
    dense, layers = set(named), range(facts["n_layers"])
    return tuple(layer for layer in layers if layer in dense or (layer + 1) % step)


def first_layers(file: File, facts: Facts) -> tuple[int, ...]:
    """The dense layers of a deepseek_v3: the first ones."""
    first = size("first_k_dense_replace", default=3, least=0).value(file)
    return tuple(range(min(first, facts["n_layers"])))


def latent_head(file: File, facts: Facts) -> int:
    """A head of queries and keys in latent attention: a part that does not turn, one that does."""
    still: int = size("qk_nope_head_dim", default=128, least=0).value(file)
    turned: int = facts["d_rotary"]
    return still + turned


def own_keys(file: File, facts: Facts) -> int:
    """In latent attention every head has keys of its own, whatever num_key_value_heads is for."""
    key = maybe_size("num_key_value_heads", default=128)
    heads: int = facts["n_heads"]
    if key.value(file) not in (0, heads):
        wrong = f"must equal num_attention_heads = {heads} in {file.type!r}"
        raise file.refusal("num_key_value_heads", key.value(file), wrong)
    return heads


def shared_width(file: File, facts: Facts) -> int:
    """Shared experts, side by side, each as wide as a routed one."""
    count: int = size("n_shared_experts", default=1, least=0).value(file)
    width: int = facts["d_expert"]
    return count * width


def post_norms(file: File, _facts: Facts) -> str:
    """opt-350m normalizes the stream after each sum; all others, what attention and MLP read."""
    return "pre" if flag("do_layer_norm_before", default=True).value(file) else "post"


def last_norm(file: File, facts: Facts) -> bool:
    """An opt ends with a norm, but where each layer does, or where an old checkpoint has none."""
    removed = flag("_remove_final_layer_norm", default=False).value(file)
    return facts["norm_placement"] == "pre" and not removed


def rows_and_two(_file: File, facts: Facts) -> int:
    """opt leaves the first two rows of its table of positions unused."""
    rows: int = facts["n_ctx"] + 2
    return rows


# -- tables -----------------------------------------------------------------------------------

# The decoder of Llama (Touvron et al. 2023, arXiv:2302.13971), on which most others are variations.
_LLAMA: Facts = {
    "vocab_size": size("vocab_size", default=32_000),
    "d_model": size("hidden_size", default=4096),
    "n_layers": size("num_hidden_layers", default=32, most=MOST_LAYERS),
    "n_heads": size("num_attention_heads", default=32),
    "n_kv_heads": maybe_size("num_key_value_heads", default=None),
    "d_head": maybe_size("head_dim", default=None),
    "n_ctx": size("max_position_embeddings", default=2048),
    "d_ff": size("intermediate_size", default=11_008),
    "activation": activation("hidden_act", default="silu"),
    "gated": True,
    "qkv_bias": flag("attention_bias", default=False),
    "out_bias": flag("attention_bias", default=False),
    "mlp_bias": flag("mlp_bias", default=False),
    "norm": "rmsnorm",
    "norm_bias": False,
    "norm_eps": number("rms_norm_eps", default=1e-6),
    "positions": "rotary",
    "rotary_base": rope("rope_theta", "rope_theta", default=10_000.0),
    "tied_head": flag("tie_word_embeddings", default=False),
}

_NO_BIAS: Facts = {"qkv_bias": False, "out_bias": False, "mlp_bias": False}

_MISTRAL: Facts = {
    **_LLAMA,
    **_NO_BIAS,
    "n_kv_heads": maybe_size("num_key_value_heads", default=8),
    "n_ctx": size("max_position_embeddings", default=131_072),
    "d_ff": size("intermediate_size", default=14_336),
    "windows": one_window(4096),
}

_QWEN2: Facts = {
    **_LLAMA,
    "vocab_size": size("vocab_size", default=151_936),
    "n_kv_heads": maybe_size("num_key_value_heads", default=32),
    "n_ctx": size("max_position_embeddings", default=32_768),
    "d_ff": size("intermediate_size", default=22_016),
    "qkv_bias": True,
    "out_bias": False,
    "mlp_bias": False,
    "windows": upper_windows,
}

_QWEN3: Facts = {
    **_QWEN2,
    "d_head": size("head_dim", default=128),
    "qk_norm": "head",
    "qkv_bias": flag("attention_bias", default=False),
    "out_bias": flag("attention_bias", default=False),
}

_GEMMA: Facts = {
    **_LLAMA,
    "vocab_size": size("vocab_size", default=256_000),
    "d_model": size("hidden_size", default=3072),
    "n_layers": size("num_hidden_layers", default=28, most=MOST_LAYERS),
    "n_heads": size("num_attention_heads", default=16),
    "n_kv_heads": size("num_key_value_heads", default=16),
    "d_head": size("head_dim", default=256),
    "n_ctx": size("max_position_embeddings", default=8192),
    "d_ff": size("intermediate_size", default=24_576),
    # The first files say "gelu" and mean its tanh form; transformers takes it so.
    "activation": activation(
        "hidden_act", default="gelu_pytorch_tanh", known={**ACTIVATIONS, "gelu": "gelu_tanh"}
    ),
    "mlp_bias": False,
    "tied_head": flag("tie_word_embeddings", default=True),
}

FAMILIES: dict[str, Facts] = {
    "gpt2": {
        "vocab_size": size("vocab_size", default=50_257),
        "d_model": size("n_embd", "hidden_size", default=768),
        "n_layers": size("n_layer", "num_hidden_layers", default=12, most=MOST_LAYERS),
        "n_heads": size("n_head", "num_attention_heads", default=12),
        "n_ctx": size("n_positions", "max_position_embeddings", default=1024),
        "d_ff": maybe_size("n_inner", default=None),
        "activation": activation("activation_function", default="gelu_new"),
        "norm_eps": number("layer_norm_epsilon", default=1e-5),
        "tied_head": flag("tie_word_embeddings", default=True),
    },
    "gpt_neox": {
        "vocab_size": size("vocab_size", default=50_432),
        "d_model": size("hidden_size", default=6144),
        "n_layers": size("num_hidden_layers", default=44, most=MOST_LAYERS),
        "n_heads": size("num_attention_heads", default=64),
        "n_ctx": size("max_position_embeddings", default=2048),
        "d_ff": size("intermediate_size", default=24_576),
        "activation": activation("hidden_act", default="gelu"),
        "parallel_block": flag("use_parallel_residual", default=True),
        "qkv_bias": flag("attention_bias", default=True),
        "out_bias": flag("attention_bias", default=True),
        "norm_eps": number("layer_norm_eps", default=1e-5),
        "positions": "rotary",
        "d_rotary": part_of_head("rotary_pct", default=0.25),
        "rotary_base": rope("rope_theta", "rotary_emb_base", default=10_000.0),
        "tied_head": flag("tie_word_embeddings", default=False),
    },
    "opt": {
        "vocab_size": size("vocab_size", default=50_272),
        "d_embed": maybe_size("word_embed_proj_dim", default=None),
        "d_model": size("hidden_size", default=768),
        "n_layers": size("num_hidden_layers", default=12, most=MOST_LAYERS),
        "n_heads": size("num_attention_heads", default=12),
        "n_ctx": size("max_position_embeddings", default=2048),
        "position_rows": rows_and_two,
        "d_ff": size("ffn_dim", default=3072),
        "activation": activation("activation_function", default="relu"),
        "qkv_bias": flag("enable_bias", default=True),
        "out_bias": flag("enable_bias", default=True),
        "mlp_bias": flag("enable_bias", default=True),
        "norm_scale": flag("layer_norm_elementwise_affine", default=True),
        "norm_bias": flag("layer_norm_elementwise_affine", default=True),
        "norm_placement": post_norms,
        "final_norm": last_norm,
        "tied_head": flag("tie_word_embeddings", default=True),
    },
    "llama": _LLAMA,
    "mistral": _MISTRAL,
    "mixtral": {
        **_MISTRAL,
        "norm_eps": number("rms_norm_eps", default=1e-5),
        "rotary_base": rope("rope_theta", "rope_theta", default=1_000_000.0),
        "windows": one_window(None),
        "n_experts": size("num_local_experts", "num_experts", default=8),
        "top_k": size("num_experts_per_tok", default=2),
    },
    "qwen2": _QWEN2,
    "qwen3": _QWEN3,
    "qwen3_moe": {
        **_QWEN3,
        "d_model": size("hidden_size", default=2048),
        "n_layers": size("num_hidden_layers", default=24, most=MOST_LAYERS),
        "n_kv_heads": size("num_key_value_heads", default=4),
        "d_head": maybe_size("head_dim", default=None),
        "d_ff": size("intermediate_size", default=6144),
        "windows": window_if_asked,
        "n_experts": size("num_experts", "num_local_experts", default=128),
        "top_k": size("num_experts_per_tok", default=8),
        "d_expert": size("moe_intermediate_size", default=768),
        "dense_layers": sparse_layers,
    },
    "gemma": _GEMMA,
    "gemma2": {
        **_GEMMA,
        "d_model": size("hidden_size", default=2304),
        "n_layers": size("num_hidden_layers", default=26, most=MOST_LAYERS),
        "n_heads": size("num_attention_heads", default=8),
        "n_kv_heads": size("num_key_value_heads", default=4),
        "d_ff": size("intermediate_size", default=9216),
        "activation": activation("hidden_activation", default="gelu_pytorch_tanh"),
        "norm_placement": "sandwich",
        "windows": every_other_window(4096),
    },
    "phi3": {
        **_LLAMA,
        **_NO_BIAS,
        "vocab_size": size("vocab_size", default=32_064),
        "d_model": size("hidden_size", default=3072),
        "n_ctx": size("max_position_embeddings", default=4096),
        "d_ff": size("intermediate_size", default=8192),
        "norm_eps": number("rms_norm_eps", default=1e-5),
        "d_rotary": part_of_head("partial_rotary_factor", default=1.0),
        "windows": one_window(None),
    },
    "olmo2": {
        **_LLAMA,
        "vocab_size": size("vocab_size", default=50_304),
        "mlp_bias": False,
        "norm_eps": number("rms_norm_eps", default=1e-5),
        "norm_placement": "output",
        "qk_norm": "width",
    },
    "granite": _LLAMA,
    "deepseek_v3": {
        **_LLAMA,
        "vocab_size": size("vocab_size", default=129_280),
        "d_model": size("hidden_size", default=7168),
        "n_layers": size("num_hidden_layers", default=61, most=MOST_LAYERS),
        "n_heads": size("num_attention_heads", default=128),
        "n_kv_heads": own_keys,
        "q_rank": maybe_size("q_lora_rank", default=1536),
        "kv_rank": size("kv_lora_rank", default=512),
        "d_rotary": pairs("qk_rope_head_dim", default=64),
        "d_head": latent_head,
        "d_value": size("v_head_dim", default=128),
        "n_ctx": size("max_position_embeddings", default=4096),
        "d_ff": size("intermediate_size", default=18_432),
        "mlp_bias": False,
        "n_experts": size("n_routed_experts", "num_local_experts", default=256),
        "top_k": size("num_experts_per_tok", default=8),
        "d_expert": size("moe_intermediate_size", default=2048),
        "d_shared": shared_width,
        "dense_layers": first_layers,
    },
    "gpt_oss": {
        **_LLAMA,
        "vocab_size": size("vocab_size", default=201_088),
        "d_model": size("hidden_size", default=2880),
        "n_layers": size("num_hidden_layers", default=36, most=MOST_LAYERS),
        "n_heads": size("num_attention_heads", default=64),
        "n_kv_heads": maybe_size("num_key_value_heads", default=8),
        "d_head": maybe_size("head_dim", default=64),
        "n_ctx": size("max_position_embeddings", default=131_072),
        "d_ff": size("intermediate_size", default=2880),
        "qkv_bias": flag("attention_bias", default=True),
        "out_bias": flag("attention_bias", default=True),
        "mlp_bias": True,
        "attention_sinks": True,
        "norm_eps": number("rms_norm_eps", default=1e-5),
        "rotary_base": rope("rope_theta", "rope_theta", default=150_000.0),
        "windows": every_other_window(128),
        "n_experts": size("num_local_experts", "num_experts", default=128),
        "top_k": size("num_experts_per_tok", default=4),
        "router_bias": True,
    },
}
