"""The ledger held to PyTorch's counter and to fvcore, at a difference of exactly zero."""

import pytest
import torch

from gptbench import presets
from gptbench.config import ModelConfig, Workload
from gptbench.record import CheckTask
from gptbench.worker import crosscheck
from gptbench.worker.model import GPT


def checks(config, **work):
    task = CheckTask(model=config, workload=Workload(**work))
    return crosscheck.check(task, lambda _doing, _value: None)


@pytest.mark.parametrize(
    "name", ["scratchgpt", "minigpt", "scala3gpt", "gptfromscratch-rope", "gpt2-small"]
)
def test_no_operator_of_a_preset_differs(name):
    config = presets.load(name)
    for check in checks(config, batch_size=1, seq_len=min(128, config.n_ctx)):
        assert [o for o in check.operators if o.flops != o.expected] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", presets.catalogue())
def test_every_preset_agrees_at_its_full_context(name):
    config = presets.load(name)
    found = checks(config, batch_size=2, seq_len=config.n_ctx)
    assert {check.difference for check in found} == {0}


def test_both_kinds_of_attention_and_both_passes_are_held():
    found = checks(presets.load("scratchgpt"), batch_size=1, seq_len=64)
    assert {(c.tool, c.attention, c.direction) for c in found} == {
        ("PyTorch FlopCounterMode", "math", "forward"),
        ("PyTorch FlopCounterMode", "math", "backward"),
        ("PyTorch FlopCounterMode", "fused", "forward"),
        ("PyTorch FlopCounterMode", "fused", "backward"),
        ("fvcore", "math", "forward"),
        ("fvcore", "fused", "forward"),
    }


def test_a_product_that_the_ledger_does_not_know_is_found_and_named():
    """The check can fail: a model with one more product than its description."""
    config = ModelConfig(name="t", n_layers=1, d_model=32, n_heads=2, n_ctx=16, vocab_size=50)
    with torch.device("meta"):
        model = GPT(config)
        model.blocks[0].mlp.up = torch.nn.Linear(32, 4 * 32 + 8)
        model.blocks[0].mlp.down = torch.nn.Linear(4 * 32 + 8, 32)
        tokens = torch.zeros(1, 16, dtype=torch.long)
    forward, _ = crosscheck.torch_counts(model, tokens)
    held = crosscheck._held(
        "PyTorch", "fused", "forward", forward,
        crosscheck._expected(config, Workload(batch_size=1, seq_len=16)),
    )  # fmt: skip
    differing = {o.operator.split()[0]: o.flops - o.expected for o in held.operators}
    assert differing["mlp.up"] == 2 * 16 * 32 * 8
    assert differing["attn.qkv"] == 0
