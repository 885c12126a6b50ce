"""Sequences that a model goes on with: the same with a cache and without, alone and in company."""

from dataclasses import replace

import pytest
import torch
from architectures import models
from hypothesis import given, settings
from hypothesis import strategies as st

from gptbench import presets
from gptbench.config import ModelConfig
from gptbench.generation import Sampling
from gptbench.worker import continuation, onednn
from gptbench.worker.continuation import Continuation
from gptbench.worker.model import GPT

torch.set_num_threads(1)

HOW = Sampling(temperature=0.9, top_k=30, top_p=0.95)


def built(config, attention="math"):
    torch.manual_seed(0)
    model = GPT(config, attention)
    with torch.no_grad():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def tiny(**facts):
    sizes = {"n_layers": 2, "d_model": 32, "n_heads": 4, "n_ctx": 16, "vocab_size": 37}
    return ModelConfig(name="tiny", **{**sizes, **facts})


def prompts_of(config, lengths):
    random = torch.Generator().manual_seed(3)
    return [torch.randint(0, config.vocab_size, (n,), generator=random).tolist() for n in lengths]


def written(model, prompts, tokens=24, seeds=(), **ways):
    """The tokens behind each prompt, all written side by side."""
    seeds = seeds or range(len(prompts))
    sequences = [
        Continuation(model, prompt, tokens, seed)
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    for _ in continuation.steps(model, sequences, **{"how": HOW, "keep": True, **ways}):
        pass
    return [s.ids[len(p) :] for s, p in zip(sequences, prompts, strict=True)]


@given(config=models(), lengths=st.lists(st.integers(1, 9), min_size=1, max_size=3))
@settings(max_examples=25)
@torch.no_grad()
def test_sequences_side_by_side_with_caches_have_the_logits_of_each_alone(config, lengths):
    """Windows, shared heads, turned and learned positions, experts: every kind that runs."""
    model = built(config)
    prompts = prompts_of(config, lengths)
    sequences = [Continuation(model, prompt, 5, 1) for prompt in prompts]
    for token in prompts_of(config, [5])[0]:
        logits = continuation.next_logits(model, sequences, keep=True)
        for sequence, cached in zip(sequences, logits, strict=True):
            alone = model(torch.tensor([sequence.ids]))[0, -1]
            assert torch.allclose(cached, alone, rtol=1e-3, atol=1e-3)
            sequence.add(token)


MODELS = {
    "learned": tiny(),
    "rotary, shared heads": tiny(positions="rotary", n_kv_heads=2),
    "windows": tiny(windows=(3, 0)),
    "no positions, experts": tiny(positions="none", n_experts=4, top_k=2),
    "sinks": tiny(attention_sinks=True),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_same_seed_writes_the_same_with_a_cache_and_without(name):
    """Over the end of the context too: 24 tokens where 16 are seen."""
    model = built(MODELS[name])
    prompts = prompts_of(model.config, [3, 7])
    assert written(model, prompts) == written(model, prompts, keep=False)


@pytest.mark.parametrize("name", MODELS)
def test_a_sequence_writes_the_same_alone_and_in_company(name):
    model = built(MODELS[name])
    prompts = prompts_of(model.config, [3, 16, 1, 7])
    alone = [written(model, [prompt], seeds=[9])[0] for prompt in prompts]
    assert written(model, prompts, seeds=[9] * 4) == alone


def test_the_fused_kernel_writes_the_same_as_attention_written_out():
    fused, math = (built(MODELS["learned"], attention) for attention in ("fused", "math"))
    prompts = prompts_of(fused.config, [5])
    assert written(fused, prompts) == written(math, prompts)


def test_layers_by_onednn_have_the_logits_and_the_text_of_the_model():
    model = built(MODELS["learned"])
    prompts = prompts_of(model.config, [5])
    logits, text = model(torch.tensor(prompts)), written(model, prompts)
    onednn.reading(model)
    assert isinstance(model.blocks[0].mlp.up, onednn.OneDNNLinear)
    assert torch.allclose(model(torch.tensor(prompts)), logits, rtol=1e-4, atol=1e-4)
    assert written(model, prompts) == text


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_layers_of_other_formats_stay_as_they_are(dtype):
    model = built(MODELS["learned"]).to(dtype)
    onednn.reading(model)
    assert type(model.unembed) is torch.nn.Linear


def test_other_seeds_write_other_tokens():
    model = built(MODELS["learned"])
    (prompt,) = prompts_of(model.config, [4])
    first, second, again = written(model, [prompt] * 3, seeds=[1, 2, 1])
    assert first == again != second


def test_without_temperature_the_likeliest_tokens_of_one_pass_follow():
    """Each token is the likeliest of the whole, read in one pass by the model itself."""
    model = built(MODELS["learned"])
    (prompt,) = prompts_of(model.config, [4])
    (tokens,) = written(model, [prompt], tokens=12, how=Sampling(temperature=0))
    logits = model(torch.tensor([[*prompt, *tokens]]))[0]
    assert tokens == logits[3:-1].argmax(dim=-1).tolist()


@pytest.mark.parametrize("keep", [True, False])
def test_a_full_context_goes_on_with_its_younger_half(keep):
    """Of 16 positions: the token behind the 17th is drawn from the last 8."""
    model = built(tiny())
    (prompt,) = prompts_of(model.config, [16])
    sequence = Continuation(model, prompt, 20, 1)
    sequence.add(5)
    logits = continuation.next_logits(model, [sequence], keep=keep)[0]
    assert torch.allclose(logits, model(torch.tensor([[*prompt[-7:], 5]]))[0, -1], atol=1e-4)
    assert sequence.forgotten == 1


def test_a_context_of_a_single_token_goes_on():
    model = built(tiny(n_ctx=1))
    assert [len(tokens) for tokens in written(model, [[1]], tokens=5)] == [5]


def test_with_a_cache_one_token_is_read_at_a_time():
    model = built(tiny())
    read = []
    model.tokens.register_forward_hook(lambda _m, inputs, _o: read.append(inputs[0].shape[1]))
    written(model, prompts_of(model.config, [3, 5]), tokens=4)
    assert read == [8, 2, 2, 2]


def test_without_a_cache_all_is_read_again():
    model = built(tiny())
    read = []
    model.tokens.register_forward_hook(lambda _m, inputs, _o: read.append(inputs[0].shape[1]))
    written(model, prompts_of(model.config, [3]), tokens=4, keep=False)
    assert read == [3, 4, 5, 6]


def test_a_sequence_that_has_ended_is_read_no_further():
    model = built(tiny())
    short, long = (Continuation(model, [1, 2], most, 1) for most in (2, 5))
    live = [len(s) for s in continuation.steps(model, [short, long], HOW, keep=True)]
    assert live == [2, 2, 1, 1, 1]
    assert (short.end, long.end) == ("tokens", "tokens")


def test_a_token_that_ends_a_text_ends_the_sequence():
    model = built(tiny())
    ((first, *_),) = written(model, [[1, 2]], seeds=[1])
    sequence = Continuation(model, [1, 2], 9, 1, frozenset([first]))
    assert len(list(continuation.steps(model, [sequence], HOW, keep=True))) == 1
    assert sequence.end == "end of text"


def test_a_model_in_bfloat16_gives_logits_in_float32():
    model = built(tiny()).bfloat16()
    sequence = Continuation(model, [1, 2], 3, 1)
    assert continuation.next_logits(model, [sequence], keep=True).dtype == torch.float32


@pytest.mark.slow
def test_scratchgpt_writes_the_same_with_a_cache_and_without_over_two_contexts():
    torch.manual_seed(0)
    config = replace(presets.load("scratchgpt"), n_layers=2)
    model = GPT(config).eval()
    prompts = prompts_of(config, [10])
    assert written(model, prompts, 600) == written(model, prompts, 600, keep=False)
