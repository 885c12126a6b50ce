"""What to change in a step, and what it would gain, by a pencil: a step of 100 ms on a made-up CPU."""

import io
import json
import math
from dataclasses import replace
from random import Random

import pytest
from rich.console import Console

import profiles
import records
from gptbench import documents, faults, findings, module_times, tries, waterfall, whatif
from gptbench.calibration import (
    AttentionShape,
    AttentionTime,
    ProductTime,
    Shape,
    Timed,
    spread,
)
from gptbench.cli.main import main
from gptbench.comparison import Change, Comparison, Row
from gptbench.config import ModelConfig, Workload
from gptbench.profiling import Trial
from gptbench.report import findings as sentences
from gptbench.report import text
from gptbench.telemetry import Energy, Host, Sample, Telemetry
from profiles import work

MS = 1_000_000
STEP = 100 * MS
TRAINING = Workload(batch_size=2, seq_len=1024)
IN_BFLOAT16 = replace(TRAINING, dtype="bfloat16", autocast=True)

# A layer of 768 x 768 for 2 x 1024 rows, and an unembedding.
LAYER = Shape(2048, 768, 768, "NT")
HEAD = Shape(2048, 768, 50257, "NT")
SCORES = Shape(1024, 64, 1024, "NN", 24)
VALUES = Shape(1024, 1024, 64, "NN", 24)
ONE_KERNEL = AttentionShape(2, 12, 1024, 1024, 64, causal=True, backward=True)


def alone(*times):
    """Products by themselves: (shape, seconds) or (shape, seconds, dtype)."""
    return Timed(
        products=tuple(
            ProductTime(shape=shape, dtype=dtype, time=spread([seconds]))
            for shape, seconds, dtype in ((*t, "float32")[:3] for t in times)
        )
    )


def product(ns, shape=LAYER, **facts):
    calls = facts.pop("calls", 1)
    return work("gemm", ns, product=shape, calls=calls, flops=calls * shape.flops, **facts)


def filled(*rows, **facts):
    """A step of these rows and, for the rest of it, of attention in one kernel."""
    left = STEP - sum(row.ns[0] for row in rows)
    kernel = work("attention", left, operator="aten::_scaled_dot_product_flash_attention_for_cpu")
    return profiles.profile(*rows, kernel, **{"workload": TRAINING, **facts})


def found(profile):
    return findings.ranked(profile, waterfall.derive(profile))


def only(profile):
    (finding,) = found(profile)
    return finding


def saved_ms(profile):
    return only(profile).saving_ns / MS


# -- one profile for each finding ---------------------------------------------------------------


def _data(ns=30 * MS):
    return filled(work("data", ns, operator="", module=None))


def _sync(**facts):
    reads = [
        work("copy", 1000, operator="aten::_local_scalar_dense", module=f"blocks.{i}", calls=3)
        for i in range(4)
    ]
    return filled(*reads, **facts)


def _pause():
    """Host time of 0.1 ms in each of eight modules, and of 20.1 ms in a ninth."""
    host = [work("host", MS // 10, operator="", calls=0, module=f"m.{i}") for i in range(8)]
    slow = work("host", 20 * MS + MS // 10, operator="", calls=0, module="m.8")
    return filled(*host, slow)


def _mixed():
    return filled(
        product(20 * MS, number="float32", module="head", calls=2),
        product(20 * MS, number="bfloat16", module="body"),
        workload=IN_BFLOAT16,
        otherwise=alone((LAYER, 2e-3), (LAYER, 1e-3, "bfloat16")),
    )


def _attention():
    """Products of 10 ms, softmax of 10 ms, a mask of 5 ms; 2 ms of copies that no score is in.

    The mask reads and writes 24 x 1024 x 1024 numbers of 4 bytes: 201 MB.
    """
    own = {"module": "blocks.0.attn"}
    return filled(
        product(5 * MS, SCORES, **own),
        product(5 * MS, VALUES, **own),
        work("softmax", 10 * MS, operator="aten::_softmax", **own),
        work("elementwise", 5 * MS, operator="aten::masked_fill", moved_bytes=202_000_000, **own),
        work("copy", 2 * MS, operator="aten::copy_", moved_bytes=12_000_000, **own),
        otherwise=Timed(
            attentions=(AttentionTime(dtype="float32", shape=ONE_KERNEL, time=spread([4e-3])),)
        ),
    )


def _padding(padded_s=8e-3):
    up = whatif.padded(HEAD, 50257, 50304)
    return filled(
        product(20 * MS, HEAD, module="unembed"),
        model=records.GPT2_SMALL,
        padded=alone((HEAD, 10e-3), (up, padded_s)),
    )


def _optimizer():
    """124,439,808 parameters of gpt2-small: 7 x 4 bytes each at 100 GB/s are 34.8 ms."""
    update = {"direction": "update", "module": None}
    found = filled(
        work("optimizer", 30 * MS, operator="aten::lerp_", calls=148, **update),
        work("optimizer", 20 * MS, operator="aten::addcmul_", calls=148, **update),
        device=replace(profiles.CPU, memory_bytes=1),  # no room for a larger batch
    )
    fast = found.memory.transfers[0]
    memory = Timed(transfers=(replace(fast, moved_bytes=10**11),))
    return replace(found, memory=memory)


def _throttled():
    samples = tuple(Sample(at_ns=i, clock_hz=10**9, reasons=0x40) for i in range(9))
    seen = Telemetry(
        host=Host(wall_ns=1, own_ns=1, threads=1),
        energy=Energy(joules=None, over_ns=1, reason="none"),
        samples=samples,
        max_clock_hz=2 * 10**9,
    )
    found = filled(work("norm", 60 * MS, module="norm"))
    return replace(found, profiled=replace(found.profiled, telemetry=seen))


def _dtype(narrow_s=4e-3):
    """2048 x 768 + 768 x 768 numbers of 4 + 2 bytes at 10 GB/s: casts take 1.3 ms."""
    return filled(product(50 * MS), otherwise=alone((LAYER, 10e-3), (LAYER, narrow_s, "bfloat16")))


def _batch():
    """Twice the rows in 1.6 times the time: a fifth of 50 ms; and half of 10 ms of the update."""
    update = {"direction": "update", "module": None, "operator": "aten::_fused_adamw_"}
    return filled(
        product(50 * MS),
        work("optimizer", 10 * MS, **update),
        otherwise=alone((LAYER, 10e-3), (whatif.doubled(LAYER), 16e-3)),
    )


def _compile():
    """Three operators that move 60 MB in all, of which the largest moves 30."""
    own = {"module": "blocks.0.norm"}
    return filled(
        work("norm", 10 * MS, operator="aten::pow", moved_bytes=20_000_000, **own),
        work("norm", 10 * MS, operator="aten::mul", moved_bytes=30_000_000, **own),
        work("norm", 10 * MS, operator="aten::rsqrt", moved_bytes=10_000_000, **own),
    )


def _logits():
    """Logits of 2048 x 50304 float32 take 412 MB; three passes more than two are 123.6 ms at 10 GB/s.

    They are never said to save more than the 30 ms that the loss takes.
    """
    head = Shape(2048, 768, 50304, "NT")
    logits = 4 * 2048 * 50304
    return filled(
        product(20 * MS, head, module="unembed"),
        work("loss", 30 * MS, operator="aten::_log_softmax", moved_bytes=5 * logits, module=None),
        model=replace(records.GPT2_SMALL, vocab_size=50304),
    )


def _recompute():
    again = product(15 * MS, direction="recompute", module="blocks.0")
    return filled(again, workload=replace(TRAINING, recompute="block"))


FOUND = {
    "data": (_data, 30),
    "sync": (_sync, 0.004),
    "pause": (_pause, 20),
    "mixed": (_mixed, 10),
    "attention": (_attention, 25 - 4),
    "padding": (_padding, 4),
    "optimizer": (_optimizer, 50 - 34.84),
    "throttled": (_throttled, 20),
    "dtype": (_dtype, 30 - 1.298),
    "batch": (_batch, 10 + 5),
    "compile": (_compile, 15),
    "logits": (_logits, 30),
    "recompute": (_recompute, 15),
}


@pytest.mark.parametrize("key", FOUND)
def test_a_fault_is_found_with_the_gain_of_a_pencil(key):
    make, saving_ms = FOUND[key]
    assert only(make()).key == key
    assert saved_ms(make()) == pytest.approx(saving_ms, abs=0.01)


def test_every_finding_has_its_sentence_and_an_example_here():
    assert set(FOUND) == set(sentences.WHAT)


@pytest.mark.parametrize("key", FOUND)
def test_a_finding_says_what_it_is_and_what_to_type_or_change(key):
    finding = only(FOUND[key][0]())
    assert sentences.what(finding).endswith(".")
    assert sentences.how(finding).endswith(".")


def test_a_healthy_step_has_no_finding():
    healthy = filled(
        product(60 * MS, module="blocks.0.mlp.up"),
        work("norm", 2 * MS, operator="aten::native_layer_norm", moved_bytes=10**7, module="norm"),
        work("loss", 2 * MS, operator="aten::_log_softmax", moved_bytes=10**6, module=None),
        work("optimizer", 2 * MS, operator="aten::_fused_adamw_", direction="update", module=None),
        otherwise=alone((LAYER, 1e-3), (LAYER, 1.2e-3, "bfloat16"), (whatif.doubled(LAYER), 2e-3)),
    )
    assert found(healthy) == ()


def test_where_nothing_is_found_that_is_said():
    healthy = filled()
    assert sentences.table(healthy, waterfall.derive(healthy)).notes == (sentences.NOTHING,)


# -- when advice is none ------------------------------------------------------------------------


def test_data_that_take_longer_than_the_rest_of_the_step_cannot_all_be_hidden():
    assert saved_ms(_data(70 * MS)) == 30


@pytest.mark.parametrize("make", [lambda: _padding(10e-3), lambda: _padding(11e-3)])
def test_padding_that_is_no_faster_on_this_device_is_not_advised(make):
    assert found(make()) == ()


def test_a_format_that_is_no_faster_here_is_not_advised():
    assert found(_dtype(narrow_s=10e-3)) == ()


def test_a_difference_that_chance_may_have_made_is_no_gain():
    """Medians of 10 and 9 ms whose three readings reach from 8 to 12."""
    noisy = {
        dtype: ProductTime(shape=LAYER, dtype=dtype, time=spread([8e-3, middle, 12e-3]))
        for dtype, middle in (("float32", 10e-3), ("bfloat16", 9e-3))
    }
    assert found(filled(product(50 * MS), otherwise=Timed(products=tuple(noisy.values())))) == ()


SHORT = Workload(batch_size=2, seq_len=128)
SHORT_KERNEL = AttentionShape(2, 12, 128, 128, 64, causal=True, backward=True)


def _short(*rows):
    """Attention of 128 tokens, 10 ms of products and 10 ms of softmax, where a kernel takes 4 ms."""
    own = {"module": "blocks.0.attn"}
    return filled(
        product(5 * MS, Shape(128, 64, 128, "NN", 24), **own),
        product(5 * MS, Shape(128, 128, 64, "NN", 24), **own),
        work("softmax", 10 * MS, operator="aten::_softmax", **own),
        work("elementwise", 2 * MS, operator="aten::masked_fill", moved_bytes=3_162_112, **own),
        *rows,
        workload=SHORT,
        otherwise=Timed(
            attentions=(AttentionTime(dtype="float32", shape=SHORT_KERNEL, time=spread([4e-3])),)
        ),
    )


def test_a_copy_of_the_queries_of_a_short_sequence_is_no_pass_over_scores():
    """2 x 12 x 128 x 64 numbers, read and written in 4 bytes: as many bytes as the scores are."""
    copy = work("copy", 7 * MS, operator="aten::clone", moved_bytes=2 * 4 * 2 * 12 * 128 * 64,
                module="blocks.0.attn")  # fmt: skip
    assert saved_ms(_short(copy)) == 10 + 10 + 2 - 4


def test_attention_that_is_recomputed_is_not_held_to_a_kernel_that_is_not():
    again = {"module": "blocks.0.attn", "direction": "recompute"}
    rows = [
        product(5 * MS, Shape(128, 64, 128, "NN", 24), **again),
        work("softmax", 10 * MS, operator="aten::_softmax", **again),
    ]
    (attention,) = [one for one in found(_short(*rows)) if one.key == "attention"]
    assert attention.saving_ns == (10 + 10 + 2 - 4) * MS


def test_a_fused_update_is_no_fault():
    update = {"direction": "update", "module": None}
    rows = [
        work("optimizer", 20 * MS, operator="aten::_fused_adamw_", **update),
        work("optimizer", MS, operator="aten::_foreach_add_", **update),
    ]
    evidence = findings.Evidence(filled(*rows), waterfall.derive(filled(*rows)))
    assert list(faults._optimizer(evidence)) == []


def test_compiling_stands_behind_attention_whose_scores_are_most_of_what_it_saves():
    """It would save 15 ms in the scores, of which attention in one kernel saves 11 for nothing."""
    own = {"module": "blocks.0.attn", "moved_bytes": 202_000_000}
    written_out = filled(
        product(5 * MS, SCORES, module="blocks.0.attn"),
        product(5 * MS, VALUES, module="blocks.0.attn"),
        work("softmax", 15 * MS, operator="aten::_softmax", **own),
        work("elementwise", 15 * MS, operator="aten::masked_fill", **own),
        otherwise=Timed(
            attentions=(AttentionTime(dtype="float32", shape=ONE_KERNEL, time=spread([29e-3])),)
        ),
    )
    attention, compiled = found(written_out)
    assert (attention.key, attention.saving_ns) == ("attention", 11 * MS)
    assert (compiled.saving_ns, compiled.values["in_scores_ns"]) == (15 * MS, 15 * MS)


def test_compiled_code_is_not_told_to_compile():
    compiled = replace(_compile(), workload=replace(TRAINING, compile=True))
    assert found(compiled) == ()


def test_a_batch_that_would_not_fit_is_not_advised():
    tight = replace(_batch(), device=replace(profiles.CPU, memory_bytes=2**30))
    assert found(tight) == ()


def test_one_step_that_was_disturbed_is_no_pause():
    """A module whose host took 20 ms in one of two profiled steps, and 0.1 ms in the other."""
    facts = {"operator": "", "calls": 0}
    host = [work("host", (MS // 10, MS // 10), module=f"m.{i}", **facts) for i in range(8)]
    slow = work("host", (20 * MS, MS // 10), module="m.8", **facts)
    seen = profiles.profile().profiled
    twice = (20 * MS + 8 * MS // 10, 9 * MS // 10)
    seen = replace(seen, step_ns=twice, profiled_ns=twice, work=(*host, slow))
    whole = profiles.profile()
    evidence = findings.Evidence(
        replace(whole, profiled=seen), waterfall.derive(replace(whole, profiled=seen))
    )
    assert list(faults._pauses(evidence)) == []


def test_what_saves_less_than_half_a_percent_is_left_out():
    assert found(_data(MS // 3)) == ()


# -- the order ----------------------------------------------------------------------------------


def test_the_largest_gain_is_first():
    both = filled(
        work("data", 10 * MS, operator="", module=None),
        product(50 * MS),
        otherwise=alone((LAYER, 10e-3), (LAYER, 4e-3, "bfloat16")),
    )
    assert [finding.key for finding in found(both)] == ["dtype", "data"]


def test_the_loss_that_is_read_after_the_model_does_not_go_before_compiling():
    read = work("copy", 1000, operator="aten::_local_scalar_dense", module=None)
    rows = [row for row in _compile().profiled.work if row.kind == "norm"]
    assert [one.key for one in found(filled(read, *rows))] == ["compile", "sync"]


def test_a_number_that_the_model_itself_reads_is_inside_of_it():
    read = work("copy", 1000, operator="aten::_local_scalar_dense", module="")
    rows = [row for row in _compile().profiled.work if row.kind == "norm"]
    first = found(filled(read, *rows))[0]
    assert sentences.what(first).startswith(
        "The host reads a number from a tensor once a step, in the model itself:"
    )


@pytest.mark.parametrize(("data_ms", "first"), [(0.9, "sync"), (1.1, "data")])
def test_a_wait_that_this_device_cannot_show_stands_before_gains_under_a_percent(data_ms, first):
    read = work("copy", 1000, operator="aten::_local_scalar_dense", module="blocks.0")
    data = work("data", round(data_ms * MS), operator="", module=None)
    assert found(filled(read, data))[0].key == first


def test_numbers_that_are_read_go_before_compiling_which_they_break_up():
    read = work("copy", 1000, operator="aten::_local_scalar_dense", module="blocks.0")
    profile = _compile()
    rows = [row for row in profile.profiled.work if row.kind == "norm"]
    assert [one.key for one in found(filled(read, *rows))] == ["sync", "compile"]


@pytest.mark.parametrize(("module", "unseen"), [("blocks.0", True), (None, False)])
def test_on_a_gpu_a_wait_costs_what_the_device_idled_and_within_a_module_more(module, unseen):
    """Behind it no kernel is queued until the host has launched some; after the step none is to be."""
    waiting = filled(
        work("sync", 20 * MS, operator="", module=None),
        work("copy", MS, operator="aten::_local_scalar_dense", module=module),
        device=records.GPU,
    )
    finding = only(waiting)
    assert (finding.saving_ns, finding.unseen) == (21 * MS, unseen)


def test_an_mlp_wider_than_the_vocabulary_is_no_head():
    """Of logits of 2048 x 512 in float32, read and written once, 4.2 MB of 21 are too many."""
    up, head = Shape(2048, 384, 1536, "NT"), Shape(2048, 384, 512, "NT")
    moved = 5 * 4 * 2048 * 512
    small = filled(
        product(20 * MS, up, module="blocks.0.mlp.up"),
        product(10 * MS, head, module="unembed"),
        work("loss", 30 * MS, operator="aten::_log_softmax", moved_bytes=moved, module=None),
        model=replace(records.GPT2_SMALL, vocab_size=512),
    )
    assert only(small).values["vocab_size"] == 512


def test_attention_that_has_no_fused_kernel_is_not_tried_as_one():
    with_sinks = replace(_attention(), model=replace(records.GPT2_SMALL, attention_sinks=True))
    assert tries.changed(with_sinks, only(with_sinks)) is None


def test_the_modules_that_read_numbers_are_named():
    assert "12 times a step, in blocks.0 to blocks.3" in sentences.what(only(_sync()))


REFUTED = Trial(
    key="dtype", option="--dtype bfloat16", verdict="refuted", reason="no faster", saving=-0.02,
    low=-0.03, high=-0.01, confidence=0.95,
)  # fmt: skip


def test_a_refuted_advice_is_last_and_says_so():
    both = filled(
        work("data", 10 * MS, operator="", module=None),
        product(50 * MS),
        otherwise=alone((LAYER, 10e-3), (LAYER, 4e-3, "bfloat16")),
        trials=(REFUTED,),
    )
    assert [finding.key for finding in found(both)] == ["data", "dtype"]
    rows = sentences.table(both, waterfall.derive(both)).rows
    assert [str(row[3]) for row in rows] == [sentences.NOT_TRIED, "refuted"]
    assert str(rows[1][2]) == "-2.0% [-3.0%, -1.0%]"


# -- what a trial changes and how it is judged --------------------------------------------------


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("padding", {"vocab_size": 50304}),
        ("dtype", {"dtype": "bfloat16", "autocast": True}),
        ("batch", {"batch_size": 4}),
        ("compile", {"compile": True}),
        ("attention", {"attention": "fused"}),
        ("recompute", {"recompute": "none"}),
    ],
)
def test_a_trial_changes_what_was_advised_and_nothing_else(key, changes):
    profile = FOUND[key][0]()
    if key == "attention":
        profile = replace(profile, workload=replace(TRAINING, attention="math"))
    model, workload = tries.changed(profile, only(profile))
    of_model = {k: v for k, v in changes.items() if k in ModelConfig.__slots__}
    of_workload = {k: v for k, v in changes.items() if k not in of_model}
    assert model == replace(profile.model, **of_model)
    assert workload == replace(profile.workload, **of_workload)


@pytest.mark.parametrize("key", ["data", "sync", "pause", "mixed", "optimizer", "logits"])
def test_code_is_not_tried(key):
    profile = FOUND[key][0]()
    assert tries.changed(profile, only(profile)) is None


def test_nothing_of_ones_own_module_is_tried():
    own = replace(_dtype(), model=records.OWN.model, traced=records.OWN.traced)
    (finding,) = [f for f in found(own) if f.key == "dtype"]
    assert tries.changed(own, finding) is None


def tried(predicted, saving, low, high, word="IMPROVED"):
    """A trial of a predicted share by turns that came to a saving within an interval."""
    log_ratio, least, most = (math.log1p(-share) for share in (saving, high, low))
    change = Change(log_ratio=log_ratio, low=least, high=most, level=0.05, method="pairs")
    row = Row(base=None, new=None, verdict=word, reason="", change=change)
    return tries.judged(replace(only(_dtype()), share=predicted), row)


@pytest.mark.parametrize(
    ("predicted", "measured", "word", "verdict"),
    [
        (0.5, (0.03, 0.02, 0.04), "IMPROVED", "refuted"),
        (0.5, (0.03, 0.02, 0.04), "SAME", "refuted"),
        (0.5, (0.20, 0.10, 0.30), "IMPROVED", "inconclusive"),
        (0.5, (0.30, 0.20, 0.40), "IMPROVED", "confirmed"),
        (0.006, (0.004, 0.002, 0.006), "IMPROVED", "confirmed"),
        (0.006, (0.004, 0.002, 0.006), "SAME", "inconclusive"),
        (0.1, (0.10, 0.00, 0.20), "INCONCLUSIVE", "inconclusive"),
        (0.1, (-0.03, -0.04, -0.02), "REGRESSED", "refuted"),
        (0.1, (-0.03, -0.04, -0.02), "FAILED", "inconclusive"),
        (0.1, (-0.03, -0.04, -0.02), "INCOMPARABLE", "inconclusive"),
    ],
)
def test_advice_that_is_shown_to_save_less_than_half_of_what_was_predicted_is_refuted(
    predicted, measured, word, verdict
):
    assert tried(predicted, *measured, word).verdict == verdict


def test_a_trial_has_the_share_of_a_tokens_time_that_was_saved_with_its_interval():
    trial = tried(0.1, 0.1, 0.05, 0.15)
    assert (trial.key, trial.option) == ("dtype", "--dtype bfloat16")
    assert (trial.saving, trial.low, trial.high) == pytest.approx((0.1, 0.05, 0.15))
    assert trial.confidence == 0.95


def test_without_time_for_a_pair_a_trial_says_what_it_needs():
    row = Row(base=None, new=None, verdict="INCONCLUSIVE", reason="Type --try-time 90s")
    trial = tries.judged(only(_dtype()), row)
    assert (trial.saving, trial.reason) == (None, "Type --try-time 90s.")


def test_a_trial_is_held_to_half_of_what_was_predicted_and_names_its_own_option(monkeypatch):
    """Only the terms are looked at: 28.7% are predicted."""
    heard = []

    def compare(base, new, terms, random, progress):
        heard.append(terms)
        row = Row(base=None, new=None, verdict="INCONCLUSIVE", reason="")
        return Comparison(base="", new="", rows=(row,), threshold=terms.threshold, across=())

    monkeypatch.setattr(tries.rivals, "compare", compare)
    means = tries.Means(data=None, time_s=90.0, random=Random(1))
    *_, profile = tries.tried(_dtype(), waterfall.derive(_dtype()), means, lambda *_: None)
    (terms,) = heard
    assert terms.threshold == pytest.approx(0.287 / 2, abs=1e-3)
    assert (terms.time_s, terms.time_option) == (90.0, "--try-time")
    assert profile.tried


# -- what is said of it ------------------------------------------------------------------------


def odd(size, padded, field):
    values = {"size": size, "padded": padded, "field": field, "where": "blocks.0"}
    return replace(only(_padding()), values=values)


@pytest.mark.parametrize(
    ("size", "padded", "tiles"),
    [(1600, 1664, "128"), (2730, 2752, "64"), (50257, 50304, "64 or 128")],
)
def test_the_tile_that_a_size_misses_is_named_and_no_other(size, padded, tiles):
    assert f" is no multiple of {tiles} (" in sentences.what(odd(size, padded, "d_model"))


def test_the_rest_of_a_vocabulary_is_unused_and_that_of_a_width_is_not():
    """A d_model is that of heads and norms too: more of it is another model."""
    assert sentences.how(odd(50257, 50304, "vocab_size")) == (
        "Make vocab_size 50,304, the rest of it unused."
    )
    assert sentences.how(odd(1600, 1664, "d_model")) == (
        "Make d_model 1,664, another width, which heads and norms may have too."
    )


def of_ones_own(profile):
    return replace(profile, model=records.OWN.model, traced=records.OWN.traced)


def said(profile, key):
    (finding,) = [one for one in found(profile) if one.key == key]
    return sentences.what(finding)


@pytest.mark.parametrize(("make", "key"), [(_recompute, "recompute"), (_batch, "batch")])
def test_whether_memory_is_enough_is_said_to_be_unknown_of_ones_own_module_alone(make, key):
    assert "not known" not in said(make(), key)
    unknown = said(of_ones_own(make()), key)
    assert "not known" in unknown
    assert "are enough" not in unknown


def notes(profile):
    return sentences.table(profile, waterfall.derive(profile)).notes


def test_trying_is_offered_until_it_was_asked_for():
    assert sentences.UNTRIED in notes(_data())
    after = notes(replace(_data(), tried=True))
    assert sentences.UNTRIED not in after
    assert sentences.NO_OPTION in after


@pytest.mark.parametrize("asked", [False, True])
def test_of_ones_own_module_only_that_presets_are_tried_is_said(asked):
    after = notes(replace(of_ones_own(_dtype()), tried=asked))
    assert sentences.OWN_MODULE in after
    assert not {sentences.UNTRIED, sentences.NO_OPTION} & set(after)


def test_where_nothing_is_found_a_terminal_shows_the_sentence_and_no_empty_table():
    healthy = filled()
    printed = io.StringIO()
    text.show(sentences.table(healthy, waterfall.derive(healthy)), Console(file=printed, width=120))
    title, *rest = printed.getvalue().split("\n\n")
    assert title == "What to change, most gain first"
    assert [part.replace("\n", " ") for part in rest if part.strip()] == [sentences.NOTHING]


# -- what is refused before anything runs -------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["--precision", "1%"], "--precision 1% is for 'gptbench throughput'"),
        (["--time", "60s"], "--time 60s is for 'gptbench throughput'"),
        (["--try", "--time", "60s", "--steps", "3"], "--time 60s is for 'gptbench throughput'"),
        (["--try-time", "60s"], "Type --try with it."),
        (["--try", "--try-time", "soon"], "'soon'"),
    ],
)
def test_what_a_profile_would_not_heed_is_refused(typed, told, capsys):
    assert main(["profile", "scratchgpt", *typed]) == 2
    assert told in " ".join(capsys.readouterr().err.split())


# -- what programs read -------------------------------------------------------------------------


def test_the_document_has_the_advice_and_reads_again():
    profile = replace(_dtype(), trials=(REFUTED,))
    document = json.loads(
        documents.dump_json(module_times.document(profile, waterfall.derive(profile)))
    )
    (advice,) = document["result"]["advice"]
    assert (advice["key"], advice["rank"], advice["option"]) == ("dtype", 1, "--dtype bfloat16")
    assert advice["share"] == pytest.approx(0.287, abs=1e-3)
    assert advice["trial"]["verdict"] == "refuted"
    assert documents.from_builtins(document, type(profile)) == profile


# -- shapes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "up"), [(50257, (50304,)), (1600, (1664,)), (768, ()), (65, ()), (2730, (2752, 2816))]
)
def test_a_size_is_rounded_up_to_tiles_unless_that_makes_another_model(size, up):
    assert whatif.rounded_up(size) == up


def test_rows_are_no_size_of_a_layer():
    assert whatif.sizes([product(MS, Shape(1000, 768, 50257, "NT"))]) == (50257, 768)


def test_a_batch_twice_as_large_has_twice_the_rows_or_sums_over_them():
    assert whatif.doubled(LAYER) == Shape(4096, 768, 768, "NT")
    assert whatif.doubled(Shape(768, 2048, 768, "TN")) == Shape(768, 4096, 768, "TN")


def test_grouped_experts_are_no_attention():
    rows = [product(MS, SCORES), work("softmax", MS, module="router")]
    assert whatif.written_out(rows, TRAINING) == ()


def test_beyond_the_knee_no_larger_batch_is_advised():
    """Twice the rows in 1.95 times the time: 1.25 ms of 50, and half of 2 ms of the update."""
    update = {"direction": "update", "module": None, "operator": "aten::_fused_adamw_"}
    flat = filled(
        product(50 * MS),
        work("optimizer", 2 * MS, **update),
        otherwise=alone((LAYER, 10e-3), (whatif.doubled(LAYER), 19.5e-3)),
    )
    assert found(flat) == ()


@pytest.mark.slow
def test_a_profile_advises_the_kernel_for_attention_that_is_written_out_and_tries_it(
    tmp_path, capsys
):
    main(["profile", "scratchgpt", "--attention", "math", "-b", "4", "--device", "cpu", "--peak",
          "none", "--try", "--try-time", "20s", "--format", "json", "--out", str(tmp_path)])  # fmt: skip
    advice = json.loads(capsys.readouterr().out)["result"]["advice"]
    (attention,) = [one for one in advice if one["key"] == "attention"]
    assert attention["option"] == "--attention fused"
    assert attention["trial"]["verdict"] in {"confirmed", "inconclusive"}
    assert "What to change" in (tmp_path / "profile.html").read_text("utf-8")
