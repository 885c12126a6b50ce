"""The model, held to other people's GPT-2 and to the ledger that describes it."""

import pytest
import torch
from torch.nn import functional as F

from gptbench import flops, presets
from gptbench.config import ModelConfig
from gptbench.worker.model import GPT, Rotary, next_token_loss

TINY = ModelConfig(
    name="tiny", n_layers=2, d_model=32, n_heads=4, n_ctx=16, vocab_size=97, activation="gelu_tanh"
)
GPT2_FAMILY = [name for name in presets.catalogue() if name.startswith("gpt2")]


@pytest.mark.parametrize("name", presets.catalogue())
def test_the_model_has_the_parameters_that_the_ledger_counts(name):
    config = presets.load(name)
    with torch.device("meta"):
        model = GPT(config)
    assert sum(p.numel() for p in model.parameters()) == flops.parameters(config).total


def huggingface_twin(config, model):
    """transformers' GPT-2 with the weights of ours, which it stores transposed."""
    transformers = pytest.importorskip("transformers")
    twin = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            n_layer=config.n_layers,
            n_embd=config.d_model,
            n_head=config.n_heads,
            n_positions=config.n_ctx,
            vocab_size=config.vocab_size,
            activation_function="gelu_new",
            layer_norm_epsilon=config.norm_eps,
            attn_pdrop=0.0,
            embd_pdrop=0.0,
            resid_pdrop=0.0,
        )
    )
    names = {
        "tokens": "transformer.wte",
        "positions": "transformer.wpe",
        "norm": "transformer.ln_f",
        "unembed": "lm_head",
        "norm_attn": "ln_1",
        "norm_mlp": "ln_2",
        "attn.qkv": "attn.c_attn",
        "attn.out": "attn.c_proj",
        "mlp.up": "mlp.c_fc",
        "mlp.down": "mlp.c_proj",
    }
    state = {}
    for name, value in model.state_dict().items():
        path, _, kind = name.rpartition(".")
        if path.startswith("blocks."):
            _, layer, rest = path.split(".", 2)
            theirs = f"transformer.h.{layer}.{names[rest]}.{kind}"
        else:
            theirs = f"{names[path]}.{kind}"
        transposed = path.startswith("blocks.") and value.ndim == 2
        state[theirs] = value.T if transposed else value
    twin.load_state_dict(state)
    return twin


@pytest.mark.parametrize("attention", ["fused", "math"])
@torch.no_grad()
def test_same_weights_give_the_logits_of_transformers_gpt2(attention):
    torch.manual_seed(0)
    model = GPT(TINY, attention)
    # Away from the initial zeros and ones, so that a forgotten bias or scale shows.
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    tokens = torch.randint(0, TINY.vocab_size, (3, TINY.n_ctx))
    theirs = huggingface_twin(TINY, model)(tokens).logits
    assert (model(tokens) - theirs).abs().max() < 1e-4


@pytest.mark.slow
@torch.no_grad()
def test_gpt2_small_at_full_size_gives_the_logits_of_transformers():
    torch.manual_seed(0)
    config = presets.load("gpt2-small")
    model = GPT(config)
    tokens = torch.randint(0, config.vocab_size, (1, 256))
    assert (model(tokens) - huggingface_twin(config, model)(tokens).logits).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["scratchgpt", "minigpt", "gptfromscratch-rope"])
@torch.no_grad()
def test_fused_and_written_out_attention_agree(name):
    torch.manual_seed(0)
    config = presets.load(name)
    fused, math = GPT(config, "fused"), GPT(config, "math")
    math.load_state_dict(fused.state_dict())
    tokens = torch.randint(0, config.vocab_size, (2, 64))
    assert torch.allclose(fused(tokens), math(tokens), atol=1e-5)


@pytest.mark.parametrize("name", ["scratchgpt", "gptfromscratch-rope"])
@torch.no_grad()
def test_a_later_token_changes_no_earlier_logit(name):
    torch.manual_seed(0)
    config = presets.load(name)
    model = GPT(config)
    tokens = torch.randint(0, config.vocab_size, (1, 32))
    changed = tokens.clone()
    changed[0, 20] = (changed[0, 20] + 1) % config.vocab_size
    assert torch.equal(model(tokens)[:, :20], model(changed)[:, :20])


def test_rotary_scores_depend_on_the_distance_alone():
    """Su et al. 2021, equation 11: the product of turned q and k is a function of m - n."""
    config = presets.load("gptfromscratch-rope")
    torch.manual_seed(0)
    q, k = torch.randn(2, config.d_head, dtype=torch.float64).unbind(0)
    everywhere = torch.ones(1, 1, 40, 1, dtype=torch.float64)
    rotary = Rotary(config).double()
    scores = (rotary(q * everywhere) @ rotary(k * everywhere).mT)[0, 0]
    for distance in (0, 3, 17):
        diagonal = torch.diagonal(scores, offset=distance)
        # The angles are float32, as in Llama.
        assert torch.allclose(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-4)


def test_the_loss_of_an_untrained_model_is_the_entropy_of_its_vocabulary():
    torch.manual_seed(0)
    config = presets.load("scratchgpt")
    tokens = torch.randint(0, config.vocab_size, (2, 65))
    loss = next_token_loss(GPT(config)(tokens[:, :-1]), tokens[:, 1:])
    assert loss.item() == pytest.approx(
        torch.tensor(float(config.vocab_size)).log().item(), abs=0.2
    )


def test_the_loss_is_the_mean_over_all_tokens():
    logits = torch.randn(2, 5, 7)
    targets = torch.randint(0, 7, (2, 5))
    per_token = [
        -F.log_softmax(logits[b, t], dim=0)[targets[b, t]] for b in range(2) for t in range(5)
    ]
    assert next_token_loss(logits, targets).item() == pytest.approx(
        torch.stack(per_token).mean().item(), rel=1e-6
    )


def test_a_tied_head_is_the_token_table():
    model = GPT(TINY)
    assert model.unembed.weight is model.tokens.weight
