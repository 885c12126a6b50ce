"""Hugging Face's config.json, held to the models that transformers builds from the same file.

Configurations are made up, tiny, with every option of their family that changes a parameter or a
product; transformers writes them to a file and builds the model, and PyTorch counts what it does.
"""

import json
import math
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptbench import flops, models, presets
from gptbench.config import Workload
from gptbench.errors import QuestionError
from gptbench.hub import reader

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", minversion="5.0")
flop_counter = pytest.importorskip("torch.utils.flop_counter")

WORK = Workload(batch_size=2, seq_len=5, mode="forward")
TYPES = tuple(reader.FAMILIES)


# -- made-up configurations: groups of fields that only make sense together -------------------


def maybe(draw, name, values):
    """A field that is there or not."""
    return {name: draw(values)} if draw(st.booleans()) else {}


def heads(draw, *, shared=True, head_dim="free", step=2):
    """Widths: heads, heads of keys, and the width of a head where it is not what divides."""
    count = draw(st.integers(1, 4))
    found = {
        "num_attention_heads": count,
        "hidden_size": count * step * draw(st.integers(1, 3)),
    }
    if shared:
        groups = [n for n in range(1, count + 1) if count % n == 0]
        found["num_key_value_heads"] = draw(st.sampled_from(groups))
    widths = st.integers(1, 5).map(lambda n: step * n)
    if head_dim == "always":
        found["head_dim"] = draw(widths)
    elif head_dim == "free":
        found |= maybe(draw, "head_dim", widths)
    return found


def flags(draw, *names):
    return [{name: draw(st.booleans())} for name in names]


def uniform_window(draw):
    return {"sliding_window": draw(st.none() | st.integers(1, 7))}


def layer_types(draw, layers):
    kind = st.sampled_from(["full_attention", "sliding_attention"])
    return draw(st.lists(kind, min_size=layers, max_size=layers))


def upper_windows(draw, layers):
    if not draw(st.booleans()):
        return {"use_sliding_window": False, "sliding_window": draw(st.integers(1, 7))}
    found = {"use_sliding_window": True, "sliding_window": draw(st.integers(1, 7))}
    found["max_window_layers"] = draw(st.integers(0, 5))
    return found | ({"layer_types": layer_types(draw, layers)} if draw(st.booleans()) else {})


def alternating(draw, layers):
    found = {"sliding_window": draw(st.integers(1, 7))}
    return found | ({"layer_types": layer_types(draw, layers)} if draw(st.booleans()) else {})


def experts(draw, count, top_k, **more):
    n = draw(st.integers(1, 5))
    return {count: n, top_k: draw(st.integers(1, n)), **more}


def renamed(group, **names):
    return {names.get(name, name): value for name, value in group.items()}


def gpt2(draw, _layers):
    group = renamed(heads(draw, shared=False, head_dim="none"), num_attention_heads="n_head")
    words = ["gelu_new", "gelu", "relu", "silu", "gelu_fast"]
    return [
        renamed(group, hidden_size="n_embd"),
        {"n_inner": draw(st.none() | st.integers(1, 20))},
        {"activation_function": draw(st.sampled_from(words))},
        {"n_positions": draw(st.integers(5, 30))},
    ]


def gpt_neox(draw, _layers):
    return [
        heads(draw, shared=False, head_dim="none", step=8)
        | {"rotary_pct": draw(st.sampled_from([0.25, 0.5, 1.0]))},
        {"intermediate_size": draw(st.integers(1, 20))},
        {"rotary_emb_base": draw(st.sampled_from([100, 10_000.0]))},
        *flags(draw, "use_parallel_residual", "attention_bias"),
    ]


def opt(draw, _layers):
    return [
        heads(draw, shared=False, head_dim="none"),
        {"ffn_dim": draw(st.integers(1, 20))},
        {"word_embed_proj_dim": draw(st.none() | st.integers(1, 20))},
        *flags(draw, "do_layer_norm_before", "enable_bias", "layer_norm_elementwise_affine"),
        *flags(draw, "_remove_final_layer_norm"),
    ]


def llama(draw, _layers):
    widths = heads(draw)
    if draw(st.booleans()):
        widths["num_key_value_heads"] = None
    return [
        widths,
        {"intermediate_size": draw(st.integers(1, 20))},
        {"rope_theta": draw(st.sampled_from([500, 500_000.0]))},
        {"rms_norm_eps": draw(st.sampled_from([1e-6, 1e-5]))},
        *flags(draw, "attention_bias", "mlp_bias"),
    ]


def mistral(draw, _layers):
    return [heads(draw), {"intermediate_size": draw(st.integers(1, 20))}, uniform_window(draw)]


def mixtral(draw, layers):
    return [*mistral(draw, layers), experts(draw, "num_local_experts", "num_experts_per_tok")]


def qwen2(draw, layers):
    return [
        heads(draw),
        {"intermediate_size": draw(st.integers(1, 20))},
        upper_windows(draw, layers),
    ]


def qwen3(draw, layers):
    widths = heads(draw, head_dim="always")
    size = {"intermediate_size": draw(st.integers(1, 20))}
    return [widths, size, upper_windows(draw, layers), *flags(draw, "attention_bias")]


def qwen3_moe(draw, layers):
    named = st.lists(st.integers(0, layers - 1), unique=True)
    return [
        heads(draw),
        {"intermediate_size": draw(st.integers(1, 20))},
        {"moe_intermediate_size": draw(st.integers(1, 20))},
        experts(draw, "num_experts", "num_experts_per_tok"),
        {"use_sliding_window": draw(st.booleans()), "sliding_window": draw(st.integers(1, 7))},
        {"decoder_sparse_step": draw(st.integers(1, 3))},
        {"mlp_only_layers": draw(st.none() | named)},
        *flags(draw, "attention_bias"),
    ]


def gemma(draw, _layers):
    widths = heads(draw, head_dim="always")
    size = {"intermediate_size": draw(st.integers(1, 20))}
    word = {"hidden_act": draw(st.sampled_from(["gelu", "gelu_pytorch_tanh", "silu"]))}
    return [widths, size, word, *flags(draw, "attention_bias")]


def gemma2(draw, layers):
    widths = heads(draw, head_dim="always")
    size = {"intermediate_size": draw(st.integers(1, 20))}
    return [widths, size, alternating(draw, layers), *flags(draw, "attention_bias")]


def phi3(draw, _layers):
    turned = {"partial_rotary_factor": draw(st.sampled_from([0.25, 0.5, 0.75, 1.0]))}
    widths = heads(draw, step=8) | turned
    return [widths, {"intermediate_size": draw(st.integers(1, 20))}, uniform_window(draw)]


def olmo2(draw, _layers):
    size = {"intermediate_size": draw(st.integers(1, 20))}
    return [heads(draw), size, *flags(draw, "attention_bias")]


def deepseek_v3(draw, _layers):
    groups, each = draw(st.integers(1, 3)), draw(st.integers(2, 3))
    allowed = draw(st.integers(1, groups))
    latent = {
        "q_lora_rank": draw(st.none() | st.integers(1, 9)),
        "kv_lora_rank": draw(st.integers(1, 9)),
        "qk_rope_head_dim": 2 * draw(st.integers(1, 4)),
        "qk_nope_head_dim": draw(st.integers(1, 9)),
        "v_head_dim": draw(st.integers(1, 9)),
    }
    routing = {
        "n_routed_experts": groups * each,
        "n_group": groups,
        "topk_group": allowed,
        "num_experts_per_tok": draw(st.integers(1, allowed * each)),
    }
    widths = heads(draw, shared=False, head_dim="none")
    return [
        widths | {"num_key_value_heads": draw(st.none() | st.just(widths["num_attention_heads"]))},
        latent,
        routing,
        {"intermediate_size": draw(st.integers(1, 20))},
        {"moe_intermediate_size": draw(st.integers(1, 20))},
        {"n_shared_experts": draw(st.integers(1, 2))},
        {"first_k_dense_replace": draw(st.integers(0, 5))},
        {"num_nextn_predict_layers": draw(st.integers(0, 1))},
        *flags(draw, "attention_bias"),
    ]


def gpt_oss(draw, layers):
    return [
        heads(draw, head_dim="always"),
        {"intermediate_size": draw(st.integers(1, 20))},
        experts(draw, "num_local_experts", "num_experts_per_tok"),
        alternating(draw, layers),
        *flags(draw, "attention_bias"),
    ]


OPTIONS = {
    "gpt2": gpt2,
    "gpt_neox": gpt_neox,
    "opt": opt,
    "llama": llama,
    "mistral": mistral,
    "mixtral": mixtral,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "qwen3_moe": qwen3_moe,
    "gemma": gemma,
    "gemma2": gemma2,
    "phi3": phi3,
    "olmo2": olmo2,
    "granite": llama,
    "deepseek_v3": deepseek_v3,
    "gpt_oss": gpt_oss,
}


@st.composite
def groups_of(draw, kind):
    """Groups of fields of a tiny configuration. The first is always given: layers, special tokens.

    A token that pads must stand in the table, so the defaults of bigger tables are taken back.
    """
    layers = draw(st.integers(1, 4))
    count = "n_layer" if kind == "gpt2" else "num_hidden_layers"
    first = {count: layers, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
    return [
        first,
        {"vocab_size": draw(st.integers(2, 40))},
        {"tie_word_embeddings": draw(st.booleans())},
        *OPTIONS[kind](draw, layers),
    ]


def merged(groups):
    return {name: value for group in groups for name, value in group.items()}


# -- both sides -------------------------------------------------------------------------------


def ours(text_or_config, kind=None):
    """The model that gptbench reads: of a configuration that transformers writes, or of fields."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "model"
        if kind is None:
            text_or_config.save_pretrained(place)
        else:
            place.mkdir()
            text = json.dumps({"model_type": kind, **text_or_config})
            (place / "config.json").write_text(text, encoding="utf-8")
        return reader.read(place)


def theirs(config):
    """The model that transformers builds, with attention and experts written out."""
    config._experts_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    return model.eval()


def parameters(model):
    """Tied tables once, as parameters() gives them."""
    return sum(p.numel() for p in model.parameters())


def traced(model, vocabulary):
    """FLOPs of a forward pass over WORK, by PyTorch's counter.

    Rotary positions multiply number by number in transformers 5, and so count as nothing there too.
    """
    tokens = torch.arange(WORK.tokens).reshape(WORK.batch_size, WORK.seq_len) % vocabulary
    with torch.no_grad(), flop_counter.FlopCounterMode(display=False) as counter:
        model(tokens, use_cache=False)
    return counter.get_total_flops()


def agree(kind, data):
    fields = merged(data.draw(groups_of(kind)))
    config = transformers.AutoConfig.for_model(kind, **fields)
    read, model = ours(config), theirs(config)
    counted = flops.parameters(read).total, flops.step_flops(read, WORK).forward
    assert counted == (parameters(model), traced(model, config.vocab_size))


@pytest.mark.parametrize("kind", TYPES)
@settings(max_examples=5)
@given(data=st.data())
def test_parameters_and_flops_are_those_of_transformers(kind, data):
    agree(kind, data)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TYPES)
@settings(max_examples=50)
@given(data=st.data())
def test_parameters_and_flops_are_those_of_transformers_in_many_models(kind, data):
    agree(kind, data)


@pytest.mark.parametrize("kind", TYPES)
@settings(max_examples=20)
@given(data=st.data())
def test_a_file_by_hand_says_what_transformers_would_write(kind, data):
    # transformers writes every field; the file by hand has some groups of them, and the defaults.
    first, *more = data.draw(groups_of(kind))
    given_groups = [first, *(group for group in more if data.draw(st.booleans()))]
    fields = merged(given_groups)
    assert ours(fields, kind) == ours(transformers.AutoConfig.for_model(kind, **fields))


@pytest.mark.parametrize("kind", TYPES)
def test_a_file_with_its_type_alone_has_the_parameters_of_transformers_default(kind):
    config = transformers.AutoConfig.for_model(kind)
    with torch.device("meta"):
        model = theirs(config)
    assert flops.parameters(ours({}, kind)).total == parameters(model)


# -- released models --------------------------------------------------------------------------

# What the config.json files of the released models say of their architecture.
RELEASED = json.loads(Path(__file__).with_name("data").joinpath("released.json").read_text("utf-8"))


@pytest.mark.parametrize("name", RELEASED)
def test_a_preset_is_what_its_released_config_says(name, tmp_path):
    (tmp_path / f"{name}.json").write_text(json.dumps(RELEASED[name]), encoding="utf-8")
    assert models.load(str(tmp_path / f"{name}.json")) == presets.load(name)


@pytest.mark.parametrize("name", RELEASED)
def test_a_released_model_has_the_parameters_that_transformers_gives_it(name):
    config = transformers.AutoConfig.for_model(**RELEASED[name])
    with torch.device("meta"):
        model = theirs(config)
    assert flops.parameters(models.load(name)).total == parameters(model)


def test_every_preset_of_a_released_family_is_held_to_its_config():
    others = {"gpt2", "from-scratch"}
    families = [p for p in presets.PRESETS.glob("*.toml") if p.stem not in others]
    assert {name for p in families for name in presets.read(p)} == set(RELEASED)


# -- spellings of older files -----------------------------------------------------------------

HEADS_OF_8 = {"hidden_size": 32, "num_attention_heads": 4}


@pytest.mark.parametrize(
    ("kind", "older", "newer"),
    [
        ("gpt2", {"hidden_size": 24, "num_hidden_layers": 3}, {"n_embd": 24, "n_layer": 3}),
        ("gpt2", {"max_position_embeddings": 9}, {"n_positions": 9}),
        ("gpt2", {"n_inner": 4 * 768}, {"n_inner": None}),
        (
            "gpt_neox",
            {"rotary_pct": 1.0, "rotary_emb_base": 500},
            {"rope_parameters": {"partial_rotary_factor": 1.0, "rope_theta": 500.0}},
        ),
        ("llama", {"rope_theta": 5e5}, {"rope_parameters": {"rope_theta": 5e5}}),
        (
            "llama",
            {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}},
            {"rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0}},
        ),
        ("llama", {"rope_scaling": None, "head_dim": None}, {"head_dim": 128}),
        ("mistral", {"num_key_value_heads": None}, {"num_key_value_heads": 32}),
        ("phi3", {"sliding_window": None}, {}),
        (
            "phi3",
            {"partial_rotary_factor": 0.75, **HEADS_OF_8},
            {"rope_parameters": {"partial_rotary_factor": 0.75}, **HEADS_OF_8},
        ),
        ("mixtral", {"num_experts": 3}, {"num_local_experts": 3}),
        ("qwen3_moe", {"num_experts": 9}, {"num_local_experts": 9}),
        ("qwen2", {"layer_types": None}, {"layer_types": ["full_attention"] * 32}),
        ("gpt_oss", {"layer_types": ["sliding_attention", "full_attention"] * 18}, {}),
        ("gemma", {"hidden_act": "gelu"}, {"hidden_act": "gelu_pytorch_tanh"}),
        ("opt", {"word_embed_proj_dim": None}, {"word_embed_proj_dim": 768}),
        ("deepseek_v3", {"moe_layer_freq": 1, "num_nextn_predict_layers": 1}, {}),
        ("granite", {"quantization_config": {"quant_method": "awq", "bits": 4}}, {}),
    ],
)
def test_an_older_spelling_is_the_same_model(kind, older, newer):
    assert ours(older, kind) == ours(newer, kind)


# -- facts that papers state ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "fields", "fact", "value"),
    [
        # Black et al. 2022, arXiv:2204.06745, section 2.1.2: attention and MLP in parallel
        ("gpt_neox", {}, "parallel_block", True),
        ("gpt_neox", {"use_parallel_residual": False}, "parallel_block", False),
        # and 2.1.1: the first quarter of a head turns, here of 6144 / 64 = 96 numbers
        ("gpt_neox", {}, "d_rotary", 24),
        # arXiv:2501.00656, section 2: norms on what attention and MLP give
        ("olmo2", {}, "norm_placement", "output"),
        # arXiv:2408.00118, section 2: norms before and behind both
        ("gemma2", {}, "norm_placement", "sandwich"),
        ("opt", {}, "norm_placement", "pre"),
        ("opt", {"do_layer_norm_before": False}, "norm_placement", "post"),
        # arXiv:2403.08295, section 2: GeGLU, with the tanh form in the released code
        ("gemma", {}, "activation", "gelu_tanh"),
        ("opt", {}, "activation", "relu"),
        ("llama", {}, "activation", "silu"),
        # arXiv:2412.19437, section 4.2: a shared expert of 2048, and two would be twice as wide
        ("deepseek_v3", {}, "d_shared", 2048),
        ("deepseek_v3", {"n_shared_experts": 2}, "d_shared", 4096),
        ("deepseek_v3", {"n_shared_experts": 0}, "d_shared", 0),
        ("deepseek_v3", {}, "dense_layers", (0, 1, 2)),
        ("mixtral", {}, "rotary_base", 1e6),
        ("gpt_oss", {}, "rotary_base", 150_000.0),
        ("opt", {"max_position_embeddings": 10}, "n_ctx", 10),
        ("opt", {"max_position_embeddings": 10}, "position_rows", 12),
    ],
)
def test_a_family_has_what_its_paper_says(kind, fields, fact, value):
    assert getattr(ours(fields, kind), fact) == value


# -- windows ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "fields", "windows"),
    [
        ("mistral", {}, (4096,)),
        ("mistral", {"sliding_window": None}, ()),
        ("mixtral", {"sliding_window": 8}, (8,)),
        ("gemma2", {}, (4096, 0)),
        ("gpt_oss", {"num_hidden_layers": 1}, (128,)),
        ("qwen2", {"use_sliding_window": False, "sliding_window": 8}, ()),
        (
            "qwen2",
            {"num_hidden_layers": 4, "use_sliding_window": True, "max_window_layers": 3},
            (0, 0, 0, 4096),
        ),
        ("qwen3_moe", {"use_sliding_window": True, "sliding_window": 8}, (8,)),
        (
            "gemma2",
            {"num_hidden_layers": 3, "layer_types": ["full_attention"] * 3},
            (),
        ),
    ],
)
def test_windows_are_said_as_briefly_as_they_can_be(kind, fields, windows):
    assert ours(fields, kind).windows == windows


# -- refusals ---------------------------------------------------------------------------------


def refusal(place):
    with pytest.raises(QuestionError) as caught:
        models.load(str(place))
    return str(caught.value)


@pytest.fixture
def config(tmp_path):
    """A config.json with this text, in a folder of its own."""

    def write(text):
        path = tmp_path / "mine" / "config.json"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        ("llama", {"hidden_size": 100}, "num_attention_heads = 32 (left out, so the default of "),
        ("llama", {"hidden_size": 100}, "must divide hidden_size = 100 where no head_dim is given"),
        (
            "llama",
            {"num_key_value_heads": 5},
            "num_key_value_heads = 5 must divide num_attention_heads = 32",
        ),
        ("gpt2", {"n_embd": 100}, "must divide n_embd = 100"),
        ("gpt2", {"hidden_size": 100}, "must divide hidden_size = 100"),
        (
            "mixtral",
            {"num_experts_per_tok": 9},
            "num_experts_per_tok = 9 must lie between 1 and num_local_experts = 8",
        ),
        (
            "gemma2",
            {"layer_types": ["full_attention"]},
            'layer_types = ["full_attention"] has 1 entries, but num_hidden_layers is 26',
        ),
        ("gemma2", {"layer_types": "full"}, 'layer_types = "full" is not a list of'),
        ("gpt_oss", {"layer_types": ["mamba"] * 36}, "is not a list of 'full_attention' and"),
        (
            "gemma2",
            {"sliding_window": None},
            "sliding_window = null leaves layers without the window",
        ),
        ("mistral", {"layer_types": ["full_attention"] * 32}, "all layers of 'mistral' have one"),
        ("llama", {"tie_word_embeddings": "no"}, 'tie_word_embeddings = "no" is not true or false'),
        ("llama", {"tie_word_embeddings": 1}, "tie_word_embeddings = 1 is not true or false"),
        ("llama", {"hidden_act": "quick_gelu"}, 'hidden_act = "quick_gelu" is none of gelu,'),
        ("llama", {"hidden_act": ["silu"]}, 'hidden_act = ["silu"] is none of gelu,'),
        ("llama", {"vocab_size": -1}, "vocab_size = -1 must lie between 1 and"),
        ("llama", {"vocab_size": 10**30}, "must lie between 1 and 1000000000"),
        ("llama", {"num_hidden_layers": 10**9}, "must lie between 1 and 10000"),
        ("llama", {"intermediate_size": 0}, "intermediate_size = 0 must lie between 1 and"),
        ("llama", {"hidden_size": 4096.0}, "hidden_size = 4096.0 is not a whole number"),
        ("llama", {"hidden_size": math.nan}, "hidden_size = NaN is not a whole number"),
        ("llama", {"hidden_size": "4096"}, 'hidden_size = "4096" is not a whole number'),
        ("llama", {"hidden_size": True}, "hidden_size = true is not a whole number"),
        ("llama", {"hidden_size": None}, "hidden_size = null is not a whole number"),
        ("llama", {"rms_norm_eps": math.nan}, "rms_norm_eps = NaN is not a finite number"),
        ("llama", {"rms_norm_eps": 2}, "rms_norm_eps = 2.0 must lie between 0 and 1"),
        ("llama", {"rope_theta": math.inf}, "rope_theta = Infinity is not a finite number"),
        ("llama", {"rope_theta": 0.5}, "rope_theta = 0.5 must be greater than 1"),
        ("llama", {"rope_theta": 10**400}, "rope_theta = 1000000000"),
        ("llama", {"head_dim": 7}, "head_dim = 7 must be even where positions are rotary"),
        (
            "llama",
            {"rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e5}},
            "rope_parameters.rope_theta = 500000.0 differs from rope_theta = 10000.0",
        ),
        (
            "llama",
            {"rope_parameters": {"full_attention": {"rope_theta": 1e4}}},
            "rope_parameters = {...} is not one object of numbers for all layers",
        ),
        ("llama", {"rope_scaling": 2}, "rope_scaling = 2 is not one object"),
        (
            "gpt2",
            {"n_embd": 768, "hidden_size": 512},
            "n_embd = 768 differs from hidden_size = 512",
        ),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention = true is an option that is"),
        ("gpt2", {"pruned_heads": {"0": [1]}}, "pruned_heads = {...} is an option that is not"),
        ("gemma", {"use_bidirectional_attention": True}, "use_bidirectional_attention = true is"),
        ("gpt_neox", {"rotary_pct": 0.04}, "rotary_pct = 0.04 turns 3 of the 96"),
        ("gpt_neox", {"rotary_pct": 1.5}, "rotary_pct = 1.5 turns 0 of the 96"),
        ("qwen3_moe", {"mlp_only_layers": [0.5]}, "mlp_only_layers = [0.5] is not a list of whole"),
        ("qwen3_moe", {"decoder_sparse_step": 0}, "decoder_sparse_step = 0 must lie between 1"),
        ("deepseek_v3", {"qk_rope_head_dim": 3}, "qk_rope_head_dim = 3 must be even"),
        (
            "deepseek_v3",
            {"num_key_value_heads": 8},
            "num_key_value_heads = 8 must equal num_attention_heads = 128",
        ),
        ("deepseek_v3", {"moe_layer_freq": 2}, "moe_layer_freq = 2 is an option that is not"),
        ("deepseek_v3", {"first_k_dense_replace": None}, "first_k_dense_replace = null is not a"),
    ],
)
def test_a_field_that_cannot_be_is_refused_by_the_files_own_name(config, kind, fields, said):
    path = config(json.dumps({"model_type": kind, **fields}))
    message = refusal(path)
    assert said in message
    assert message.startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "malformed JSON"),
        ("", "malformed JSON"),
        ("[1, 2]", "holds no JSON object"),
        ("null", "holds no JSON object"),
        ("[" * 100_000, "malformed JSON"),
        ('{"a":' * 100_000, "malformed JSON"),
        ('{"vocab_size": 1, "vocab_size": 2}', "'vocab_size' stands there twice"),
        ('{"vocab_size": ' + "9" * 5000 + "}", "malformed JSON"),
        (b"\xff\xfe\x00", "it is not UTF-8 text"),
        ("{}", "has no model_type"),
        ('{"model_type": null}', "has no model_type"),
        ('{"model_type": 3}', "model_type = 3 is none of gpt2, gpt_neox, opt, llama"),
        ('{"model_type": ["gpt2"]}', 'model_type = ["gpt2"] is none of'),
        ('{"model_type": "mamba"}', "gptbench flops module:factory --input-shape 1x1024"),
        ('{"model_type": "gemma3", "text_config": {"model_type": "gemma"}}', "is none of"),
    ],
    ids=range(15),
)
def test_a_file_that_is_no_known_config_is_refused_with_its_name(config, text, said):
    path = config(text)
    message = refusal(path)
    assert said in message
    assert str(path) in message


def test_a_file_as_big_as_a_checkpoint_is_refused_unread(config):
    path = config("{}")
    with path.open("r+b") as file:
        file.truncate(2 * 10**9)  # a hole: the size without the bytes
    assert "has 2,000,000,000 bytes" in refusal(path)


def test_a_pipe_is_refused_unread(tmp_path):
    os.mkfifo(tmp_path / "config.json")  # reading it would wait for a writer for ever
    assert refusal(tmp_path) == f"'{tmp_path / 'config.json'}' is no file."


def test_a_file_that_is_not_there_is_refused_with_the_systems_reason(tmp_path):
    assert "none.json': No such file or directory" in refusal(tmp_path / "none.json")


def test_a_folder_that_is_not_there_is_refused_with_the_systems_reason(tmp_path):
    assert "none': No such file or directory" in refusal(tmp_path / "none")


def test_a_folder_without_a_config_is_refused_with_the_name_that_is_missing(tmp_path):
    assert f"'{tmp_path / 'config.json'}': No such file or directory" in refusal(tmp_path)


def test_a_path_that_is_too_long_is_refused(tmp_path):
    assert "File name too long" in refusal(f"{tmp_path}/{'x' * 5000}.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@pytest.mark.parametrize("kind", TYPES)
@settings(max_examples=25)
@given(data=st.data())
def test_any_value_of_any_field_is_read_or_refused_in_a_sentence(kind, data):
    written = transformers.AutoConfig.for_model(kind).to_dict()
    names = data.draw(st.lists(st.sampled_from(sorted(written)), min_size=1, max_size=3))
    fields = written | {name: data.draw(json_values) for name in names} | {"model_type": kind}
    try:
        answer = f"{flops.parameters(ours(fields, kind)).total} parameters."
    except QuestionError as error:
        answer = str(error)
    assert answer.endswith(".")


# -- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("tiny-llama/config.json", "tiny-llama"),
        ("tiny-llama.json", "tiny-llama"),
        ("models--openai--gpt-oss-20b/snapshots/6cee5e8/config.json", "gpt-oss-20b"),
    ],
)
def test_a_model_is_named_by_its_folder_or_file(tmp_path, place, name):
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"model_type": "gpt2"}', encoding="utf-8")
    assert models.load(str(path)).name == name


def test_a_folder_is_a_model_too(config):
    path = config('{"model_type": "gpt2"}')
    assert models.load(str(path.parent)) == models.load(str(path))


def test_a_preset_comes_before_a_folder_of_its_name(tmp_path, monkeypatch):
    folder = tmp_path / "gpt2-xl"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "gpt2"}', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert [models.load(name).n_layers for name in ("gpt2-xl", "./gpt2-xl")] == [48, 12]
