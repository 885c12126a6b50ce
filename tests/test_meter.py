"""MFUMeter on a clock that obeys, held to published runs and to the record's own metrics."""

import subprocess
import sys
import tracemalloc
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_utilization import COMPOSER, MEGATRON, every_mpt_run, judged_as, mpt, setting

from fakes import FakeClock
from gptbench import device, flops, metrics, presets, utilization
from gptbench.config import ModelConfig, Workload
from gptbench.errors import EXIT_UNAVAILABLE, ImpossibleMfuError, QuestionError
from gptbench.meter import MFUMeter, refuse_impossible

A100 = "NVIDIA A100-SXM4-80GB"


@pytest.fixture
def clock():
    return FakeClock()


def meter_on(clock, model=None, **facts):
    """Of a device that does 1000 FLOP/s and a model of one FLOP a token, unless facts say other."""
    judged = {} if "device" in facts or "peak_flops_per_s" in facts else {"peak_flops_per_s": 1000}
    counted = {} if model is not None or "flops_per_token" in facts else {"flops_per_token": 1}
    return MFUMeter(model, clock=clock, **{"skip": 1, **judged, **counted, **facts})


def run(meter, clock, *times_s, tokens=100):
    """Steps of these times; the first call only starts the clock."""
    meter.step(tokens)
    for time_s in times_s:
        clock.passes(time_s)
        meter.step(tokens)
    return meter.compute()


# -- rates ------------------------------------------------------------------------------------


def test_tokens_per_second_are_all_tokens_over_all_time(clock):
    # 100 tokens in 1 s and in 3 s: 50 tokens/s, where the mean of the rates is 66.7.
    found = run(meter_on(clock), clock, 1, 3)
    assert (found.tokens, found.window_s, found.tokens_per_s) == (200, 4.0, 50.0)


def test_mfu_is_the_flops_of_the_tokens_over_what_the_peak_allows(clock):
    found = run(meter_on(clock, flops_per_token=4), clock, 1, 3)
    assert (found.model_flops_per_s, found.mfu, found.hfu) == (200.0, 0.2, 0.2)
    assert (found.status, found.reason) == ("ok", "")


def test_the_median_step_stands_beside_the_window(clock):
    found = run(meter_on(clock), clock, 1, 1, 1, 1, 1, 5).step_time_s
    assert (found.median, found.low, found.high, found.n) == (1.0, 1.0, 5.0, 6)


def test_the_first_call_starts_the_clock_and_times_nothing(clock):
    found = run(meter_on(clock), clock)
    assert (found.n_steps, found.tokens_per_s, found.step_time_s, found.mfu) == (
        0,
        None,
        None,
        None,
    )
    assert found.status == "warming-up"


def test_what_happens_before_the_first_call_is_in_no_step(clock):
    meter = meter_on(clock)
    clock.passes(1000)
    assert run(meter, clock, 2).window_s == 2.0


def test_warm_up_steps_are_in_no_window(clock):
    assert run(meter_on(clock, skip=3), clock, 60, 30, 2, 2).window_s == 4.0


def test_five_steps_are_warm_up_where_nobody_says(clock):
    meter = MFUMeter(flops_per_token=1, peak_flops_per_s=1e3, clock=clock)
    assert run(meter, clock, 1, 1, 1, 1).reason == ("no step is timed yet: the first 5 are warm-up")
    assert run(meter, clock).n_steps == 1


def test_a_reading_is_of_the_last_steps_of_its_window(clock):
    found = run(meter_on(clock, window=2), clock, 50, 1, 3)
    assert (found.n_steps, found.tokens_per_s) == (2, 50.0)


def test_a_reset_forgets_steps_and_begins_with_a_warm_up(clock):
    meter = meter_on(clock)
    run(meter, clock, 7)
    meter.reset()
    clock.passes(1000)
    assert run(meter, clock, 1).window_s == 1.0


def test_gradients_that_are_added_up_are_one_step(clock):
    meter = meter_on(clock)
    run(meter, clock)
    for _ in range(4):
        clock.passes(0.5)
        meter.count(25)
    meter.step()
    found = meter.compute()
    assert (found.n_steps, found.tokens, found.window_s) == (1, 100, 2.0)


def test_a_clock_too_coarse_for_a_step_gives_no_infinite_rate(clock):
    assert run(meter_on(clock), clock, 0).window_s == 1e-9


def test_tokens_of_several_devices_are_shared_among_them(clock):
    found = run(meter_on(clock, world_size=4), clock, 1)
    assert (found.tokens_per_s, found.model_flops_per_s, found.mfu) == (100.0, 25.0, 0.025)


def test_a_million_steps_take_no_more_memory_than_a_window(clock):
    meter = meter_on(clock, window=10)

    def steps(n):
        for _ in range(n):
            clock.passes(0.001)
            meter.step(1_000_000)

    steps(100)
    tracemalloc.start()
    steps(100)
    before, _ = tracemalloc.get_traced_memory()
    steps(10_000)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 1000


# -- pauses -----------------------------------------------------------------------------------


def test_a_pause_is_in_no_step_and_is_said(clock):
    meter = meter_on(clock)
    run(meter, clock)
    clock.passes(1)
    with meter.paused():
        clock.passes(60)
    clock.passes(2)
    meter.step(300)
    found = meter.compute()
    assert (found.window_s, found.paused_s, found.tokens_per_s) == (3.0, 60.0, 100.0)


def test_a_pause_after_a_step_is_not_in_the_next_one(clock):
    meter = meter_on(clock)
    run(meter, clock, 1)
    meter.pause()
    clock.passes(60)
    meter.resume()
    clock.passes(1)
    meter.step(100)
    assert meter.compute().window_s == 2.0


def test_two_pauses_in_a_step_add_up(clock):
    meter = meter_on(clock)
    run(meter, clock)
    for _ in range(2):
        with meter.paused():
            clock.passes(5)
        clock.passes(1)
    meter.step(100)
    assert (meter.compute().window_s, meter.compute().paused_s) == (2.0, 10.0)


def test_a_pause_within_a_pause_ends_with_the_outer_one(clock):
    meter = meter_on(clock)
    run(meter, clock)
    with meter.paused():
        with meter.paused():
            clock.passes(5)
        clock.passes(5)
    clock.passes(1)
    meter.step(100)
    assert (meter.compute().window_s, meter.compute().paused_s) == (1.0, 10.0)


def test_a_pause_ends_where_its_block_fails(clock):
    meter = meter_on(clock)
    with pytest.raises(ZeroDivisionError), meter.paused():
        raise ZeroDivisionError
    assert run(meter, clock, 1).window_s == 1.0


def test_resuming_what_runs_changes_nothing(clock):
    meter = meter_on(clock)
    meter.resume()
    assert run(meter, clock, 1).paused_s == 0.0


def test_pauses_leave_the_window_with_their_steps(clock):
    meter = meter_on(clock, window=1)
    run(meter, clock)
    with meter.paused():
        clock.passes(60)
    clock.passes(1)
    meter.step(100)
    assert meter.compute().paused_s == 60.0
    clock.passes(1)
    meter.step(100)
    assert meter.compute().paused_s == 0.0


def test_a_step_in_a_pause_is_refused(clock):
    meter = meter_on(clock)
    meter.pause()
    with pytest.raises(QuestionError, match=r"resume\(\)"):
        meter.step(100)


# -- published runs ---------------------------------------------------------------------------


def fed(clock, tokens, time_s, model, **facts):
    return run(meter_on(clock, model, **facts), clock, time_s, time_s, tokens=tokens)


@every_mpt_run
def test_a_published_throughput_has_its_published_mfu_and_hfu(row, clock):
    # llm-foundry prints tokens/s cut to whole ones, and judged by Composer's peaks.
    facts = {
        "seq_len": int(row["seq_len"]),
        "convention": "llm_foundry",
        "recompute": "block" if row["activation_checkpointing"] == "True" else "none",
        "world_size": int(row["n_gpus"]),
        "peak_flops_per_s": COMPOSER[judged_as(row)],
    }
    low, high = (
        fed(clock, int(row["tokens_per_s"]) + more, 1, mpt(row), **facts) for more in (0, 1)
    )
    for name in ("mfu", "hfu"):
        published = float(row[f"{name}_percent"]) / 100
        assert getattr(low, name) - 0.00005 <= published <= getattr(high, name) + 0.00005


def test_palm_540b_has_the_mfu_that_its_paper_prints(clock):
    # Chowdhery et al. 2022, table 3 and appendix B: 238.3k tokens/s on 6144 TPU v4, 46.2%.
    palm = ModelConfig(
        name="palm-540b",
        n_layers=118,
        d_model=18432,
        n_heads=48,
        n_kv_heads=1,
        d_head=256,
        d_ff=4 * 18432,
        n_ctx=2048,
        vocab_size=256_000,
        gated=True,
        positions="rotary",
        qkv_bias=False,
        out_bias=False,
        mlp_bias=False,
        norm_bias=False,
    )
    facts = {"device": "tpu-v4", "dtype": "bf16", "seq_len": 2048, "world_size": 6144}
    found = fed(clock, 238_300, 1, palm, convention="palm", **facts)
    assert round(100 * found.mfu, 1) == 46.2


@pytest.mark.parametrize("published", MEGATRON)
def test_megatrons_iterations_have_the_mfu_of_its_paper(published, clock):
    # Korthikanti et al. 2022, table 5: a sequence of 2048 tokens a GPU.
    layers, width, heads, gpus, step_s = published
    model = ModelConfig(
        name="megatron",
        n_layers=layers,
        d_model=width,
        n_heads=heads,
        n_ctx=2048,
        vocab_size=51_200,
    )
    facts = {"device": A100, "dtype": "float16", "seq_len": 2048, "recompute": "attention"}
    found = fed(clock, gpus * 2048, step_s, model, world_size=gpus, **facts)
    assert 100 * found.mfu == pytest.approx(MEGATRON[published][0], abs=0.06)


# -- agreement with the rest of gptbench ------------------------------------------------------


@pytest.mark.parametrize("name", presets.catalogue())
def test_flops_of_a_token_are_the_ledgers_to_the_last(name):
    model = presets.load(name)
    work = Workload(batch_size=1, seq_len=model.n_ctx, recompute="block")
    cost = flops.step_flops(model, work)
    meter = MFUMeter(name, seq_len=model.n_ctx, recompute="block")
    assert meter.work.flops_per_token == cost.per_token
    assert meter.work.hardware_flops_per_token * cost.tokens == pytest.approx(cost.hardware)


def test_a_window_reads_as_the_same_window_of_a_record(record_of, clock):
    rec = record_of(measurement={"step_ns": tuple(range(9_000_000, 21_000_000, 1_000_000))})
    rec = replace(rec, measurement=replace(rec.measurement, window_ns=sum(rec.measurement.step_ns)))
    meter = meter_on(
        clock, rec.model, seq_len=rec.workload.seq_len, peak_flops_per_s=rec.device.peak_flops_per_s
    )
    times_s = [ns / 1e9 for ns in rec.measurement.step_ns]
    found, derived = (
        run(meter, clock, *times_s, tokens=rec.workload.tokens),
        metrics.derive(rec),
    )
    assert found.step_time_s == derived.step_time_s
    assert found.tokens_per_s == pytest.approx(derived.window_tokens_per_s, rel=1e-12)
    assert found.mfu == pytest.approx(derived.mfu, rel=1e-12)
    assert found.hfu == pytest.approx(derived.hfu, rel=1e-12)


conventions_of = st.sampled_from(["exact", "palm", "nanogpt", "llm_foundry"])


@given(st.integers(1, 10**6), st.integers(1, 64), conventions_of)
def test_a_throughput_reads_as_it_does_to_gptbench_mfu(tokens, n_gpus, convention):
    model, clock = presets.load("gpt2-small"), FakeClock()
    facts = {"seq_len": 1024, "recompute": "block", "convention": convention}
    found = fed(clock, tokens, 1, model, world_size=n_gpus, peak_flops_per_s=1e18, **facts)
    asked = setting(model, 1e18, n_gpus=n_gpus, recompute="block")
    readings = utilization.from_throughput(asked, tokens)
    expected = next(r for r in readings if r.convention.key == convention)
    assert found.flops_per_token == expected.flops_per_token
    assert found.mfu == pytest.approx(expected.mfu)
    assert found.hfu == pytest.approx(expected.hfu)


# -- laws -------------------------------------------------------------------------------------

times = st.lists(st.integers(1, 10**6), min_size=1, max_size=20)  # milliseconds


def of_times(milliseconds, tokens, **facts):
    clock = FakeClock()
    return run(meter_on(clock, **facts), clock, *(ms / 1e3 for ms in milliseconds), tokens=tokens)


@given(times, st.integers(2, 50))
def test_steps_that_take_longer_give_so_many_times_less(milliseconds, factor):
    one = of_times(milliseconds, 7, peak_flops_per_s=1e9)
    slow = of_times([factor * ms for ms in milliseconds], 7, peak_flops_per_s=1e9)
    assert slow.tokens_per_s * factor == pytest.approx(one.tokens_per_s)
    assert slow.mfu * factor == pytest.approx(one.mfu)


@given(times, st.integers(2, 1000))
def test_as_many_more_tokens_on_more_devices_are_the_same_use(milliseconds, n):
    one = of_times(milliseconds, 7, peak_flops_per_s=1e9)
    many = of_times(milliseconds, 7 * n, peak_flops_per_s=1e9, world_size=n)
    assert many.mfu == pytest.approx(one.mfu)
    assert many.tokens_per_s == pytest.approx(n * one.tokens_per_s)


@given(times, st.lists(st.integers(0, 10**6), min_size=1, max_size=5))
def test_pauses_of_any_length_change_no_rate(milliseconds, pauses):
    clock = FakeClock()
    meter = meter_on(clock, peak_flops_per_s=1e9)
    meter.step(7)
    for i, ms in enumerate(milliseconds):
        with meter.paused():
            clock.passes(pauses[i % len(pauses)] / 1e3)
        clock.passes(ms / 1e3)
        meter.step(7)
    assert meter.compute().mfu == of_times(milliseconds, 7, peak_flops_per_s=1e9).mfu


# -- peaks ------------------------------------------------------------------------------------


def gpt2_on(name, dtype="bfloat16", **facts):
    return MFUMeter("gpt2-small", device=name, dtype=dtype, seq_len=1024, **facts)


def card(name, units):
    return SimpleNamespace(name=name, multi_processor_count=units)


@pytest.mark.parametrize(
    "name", [A100, "a100-sxm4-80gb", "a100", card(A100, 108)], ids=["driver", "id", "short", "card"]
)
def test_a_peak_is_found_by_any_name_that_is_sure(name):
    assert gpt2_on(name).limit.flops_per_s == 312e12
    assert "dense bfloat16" in gpt2_on(name).limit.source


def test_a_torch_dtype_is_as_good_as_its_name():
    torch = pytest.importorskip("torch")
    assert gpt2_on(A100, torch.float32).limit.flops_per_s == 19.5e12
    assert gpt2_on(A100, "tf32").limit.flops_per_s == 156e12


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("NVIDIA Imaginary", "'NVIDIA Imaginary' is not in the table of 'gptbench gpus'"),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", "'NVIDIA A100-SXM4-80GB MIG 1g.10gb' is not in"),
        (card(A100, 14), "no device of the table is 'NVIDIA A100-SXM4-80GB' with as many"),
        ("h100", "'h100' stands for devices of different bfloat16 peaks: "),
        ("v100", "no bfloat16 peak of 'v100' is known"),
        (None, "no device is named"),
    ],
    ids=["stranger", "slice", "fewer multiprocessors", "several", "other dtypes", "nobody"],
)
def test_an_unknown_peak_gives_no_mfu_but_a_reason(clock, name, reason):
    found = run(gpt2_on(name, clock=clock, skip=1), clock, 1, tokens=1024)
    assert (found.status, found.mfu, found.hfu) == ("peak-unknown", None, None)
    assert found.reason.startswith(reason)
    assert found.tokens_per_s == 1024.0


def test_a_stated_peak_is_before_the_tables():
    limit = gpt2_on(A100, peak_flops_per_s=1e15).limit
    assert (limit.flops_per_s, limit.source) == (1e15, "stated as peak_flops_per_s")


def test_an_mfu_over_a_sure_peak_is_an_error_and_no_number(clock):
    found = run(meter_on(clock), clock, 1, tokens=1050)
    assert (found.status, found.mfu, found.hfu) == ("impossible", None, None)
    assert found.reason.startswith("an MFU of 105.0% is impossible against a peak of 1.000 kFLOP/s")
    with pytest.raises(ImpossibleMfuError, match=r"an MFU of 105\.0%") as caught:
        refuse_impossible(found)
    assert caught.value.exit_code == EXIT_UNAVAILABLE


def test_recomputation_beyond_the_peak_is_as_impossible(clock):
    facts = {"seq_len": 1024, "recompute": "block", "device": A100, "dtype": "bfloat16"}
    enough = int(0.9 * 312e12 / MFUMeter("gpt2-small", **facts).work.flops_per_token)
    found = fed(clock, enough, 1, "gpt2-small", **facts)
    assert found.reason.startswith("an HFU of 11")


def test_a_reading_that_can_be_is_not_refused(clock):
    refuse_impossible(run(meter_on(clock), clock, 1))


@pytest.mark.parametrize(("share", "status"), [(1.1, "ok"), (1.3, "impossible")])
def test_a_card_that_runs_above_its_stated_clock_may_be_above_its_peak(clock, share, status):
    (row,) = (d for d in device.table() if d.id == "rtx-4090")
    tokens = int(share * row.peaks["bfloat16"].flops_per_s / 1e6)
    facts = {"device": "NVIDIA GeForce RTX 4090", "dtype": "bfloat16"}
    found = run(meter_on(clock, flops_per_token=1e6, **facts), clock, 1, tokens=tokens)
    assert found.status == status


# -- what cannot be ---------------------------------------------------------------------------

GOOD = {"flops_per_token": 1, "peak_flops_per_s": 1}


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({}, "give a model, or flops_per_token"),
        ({**GOOD, "model": "gpt2-small", "seq_len": 8}, "exactly one of the two"),
        ({"model": "gpt2-small"}, "a model needs seq_len"),
        ({"model": "gpt2-small", "seq_len": 2048}, "over the context of 'gpt2-small'"),
        ({"model": "gpt2-smal", "seq_len": 8}, "Nearest: 'gpt2-small'"),
        ({"model": "gpt2-small", "seq_len": 8, "device": "a100"}, "such as dtype='bfloat16'"),
        ({"model": "gpt2-small", "seq_len": 8, "device": 0, "dtype": "bf16"}, "device = 0 is no"),
        ({"model": "gpt2-small", "seq_len": 8, "device": "a100", "dtype": "bf"}, "dtype 'bf'"),
        ({"model": "gpt2-small", "seq_len": 8, "recompute": "all"}, "recompute = 'all'"),
        ({"model": "gpt2-small", "seq_len": 8, "convention": "plam"}, "Nearest: 'palm'"),
        ({**GOOD, "recompute": "block"}, "recompute and convention need a model"),
        ({**GOOD, "flops_per_token": float("nan")}, "flops_per_token = nan must be positive"),
        ({**GOOD, "peak_flops_per_s": 0}, "peak_flops_per_s = 0 must be positive"),
        ({**GOOD, "world_size": 0}, "world_size = 0 must be a whole number, at least 1"),
        ({**GOOD, "skip": 0}, "skip = 0 must be"),
        ({**GOOD, "window": 10_001}, "between 1 and 10,000"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_is_refused_in_a_sentence(facts, said):
    with pytest.raises(QuestionError) as caught:
        MFUMeter(**facts)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (0, "a step of 0 tokens is none"),
        (-5, "a step of -5 tokens"),
        (1.5, "tokens is a float and no whole number"),
    ],
)
def test_tokens_that_cannot_be_are_refused(clock, tokens, said):
    with pytest.raises(QuestionError) as caught:
        meter_on(clock).step(tokens)
    assert said in str(caught.value)


def test_a_tensor_is_refused_as_reading_it_waits_for_the_device(clock):
    torch = pytest.importorskip("torch")
    with pytest.raises(QuestionError, match=r"batch\.numel\(\)"):
        meter_on(clock).step(torch.tensor(5))


def test_whole_numbers_of_numpy_are_tokens(clock):
    numpy = pytest.importorskip("numpy")
    assert run(meter_on(clock), clock, 1, tokens=numpy.int64(100)).tokens == 100


def test_a_meter_needs_no_torch():
    code = (
        "import sys; from gptbench.meter import MFUMeter; "
        "MFUMeter('gpt2-xl', seq_len=1024).step(5); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
