"""What a record of prefill or decode says of serving, with a pencil."""

from dataclasses import replace

import pytest

from gptbench import documents, flops, memory, metrics, presets, roofline
from gptbench.config import Workload
from gptbench.grid import Point
from gptbench.question import Question
from gptbench.record import DeviceUsed
from gptbench.report import caveats, frame, inferences, results, sweeps
from gptbench.report.pages import result as pages
from gptbench.report.table import DASH
from gptbench.sweep import Outcome
from gptbench.trust import Caveat
from records import ON_GPU

SMALL = presets.load("gpt2-small")
LLAMA_2_7B = presets.load("llama-2-7b")
LLAMA_3_8B = presets.load("llama-3-8b")
MIXTRAL = presets.load("mixtral-8x7b")

DECODE = Workload(batch_size=16, seq_len=4096, mode="decode", dtype="bfloat16")


def recorded(model, work, step_s, steps=100, **device):
    """A record of steps that all take as long."""
    step_ns = round(step_s * 1e9)
    facts = {"bandwidth_bytes_per_s": 2e12, "bandwidth_source": "sum", **device}
    return replace(
        ON_GPU,
        model=model,
        workload=work,
        device=replace(ON_GPU.device, **facts),
        measurement=replace(
            ON_GPU.measurement, step_ns=(step_ns,) * steps, window_ns=steps * step_ns
        ),
        batch_search=None,
    )


def said(rec):
    found = metrics.derive(rec).inference
    assert found is not None
    return found


# -- what a step must read ------------------------------------------------------------------------


def test_a_decoded_token_meets_every_weight_of_gpt2_but_its_positions():
    """The token table is the head's too; of the 1024 positions one row is looked up."""
    work = Workload(batch_size=1, seq_len=1024, mode="decode")
    assert roofline.needed(SMALL, work).weights == 4 * (124_439_808 - 1024 * 768)


def test_a_table_that_is_not_the_head_s_is_not_read():
    """Llama 3 8B has 8,030,261,248 parameters, of which 128,256 x 4096 are looked up."""
    assert roofline.needed(LLAMA_3_8B, DECODE).weights == 2 * (8_030_261_248 - 128_256 * 4096)


def test_keys_and_values_are_read_once_for_the_heads_that_share_them():
    """32 layers of 8 heads x 128 keys and as many values, 16 x 4096 tokens, 2 bytes each: 8 GiB."""
    cache = 32 * 2 * 8 * 128 * 16 * 4096 * 2
    assert roofline.needed(LLAMA_3_8B, DECODE).kv_cache == cache == 8 * 2**30
    assert memory.kv_cache_bytes(LLAMA_3_8B, DECODE) == cache


def test_one_token_reads_two_experts_of_eight():
    """Each expert of Mixtral is 3 matrices of 4096 x 14336, in 32 layers."""
    whole = flops.parameters(MIXTRAL).total - 32_000 * 4096
    unread = 6 * 32 * 3 * 4096 * 14336
    found = roofline.needed(MIXTRAL, replace(DECODE, batch_size=1))
    assert (found.weights, found.expected) == (2 * (whole - unread), False)


def test_four_tokens_are_expected_to_read_five_and_a_half_experts_of_eight():
    """8·(1 - (3/4)⁴) = 5.46875 of them in each of 32 layers: 175 of 256."""
    whole = flops.parameters(MIXTRAL).total - 32_000 * 4096
    unread = (256 - 175) * 3 * 4096 * 14336
    found = roofline.needed(MIXTRAL, replace(DECODE, batch_size=4))
    assert (found.weights, found.expected) == (2 * (whole - unread), True)


@pytest.mark.parametrize(("batch_size", "told"), [(1, False), (4, True)])
def test_an_mbu_says_that_its_experts_are_expected(batch_size, told):
    rec = recorded(MIXTRAL, replace(DECODE, batch_size=batch_size), 0.02)
    (row,) = (row for row in inferences.rows(rec, said(rec)) if row[0] == "MBU")
    assert ("expected, with tokens spread evenly" in row[2]) == told


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_flops_of_experts_are_exact_however_tokens_are_spread(batch_size):
    """Two experts a token, each three matrices of 4096 x 14336."""
    rows = flops.matmuls(MIXTRAL, replace(DECODE, batch_size=batch_size))
    found = sum(row.flops for row in rows if row.name.startswith("moe.experts"))
    assert found == batch_size * 2 * 32 * 3 * 2 * 4096 * 14336


def test_a_window_bounds_what_is_read_and_not_what_is_held():
    windowed = replace(SMALL, windows=(256,))
    work = Workload(batch_size=1, seq_len=1024, mode="decode")
    whole = roofline.needed(SMALL, work).kv_cache
    assert roofline.needed(windowed, work).kv_cache == whole // 4
    assert memory.kv_cache_bytes(windowed, work) == memory.kv_cache_bytes(SMALL, work)


def test_filling_a_cache_costs_its_prompts_but_no_more_than_eight():
    one = flops.filling_flops(SMALL, Workload(batch_size=1, seq_len=1024, mode="decode"))
    prompt = Workload(batch_size=1, seq_len=1023, mode="prefill")
    assert one == flops.step_flops(SMALL, prompt).forward
    many = Workload(batch_size=500, seq_len=1024, mode="decode")
    assert flops.filling_flops(SMALL, many) == 8 * one


@pytest.mark.parametrize("mode", ["train", "forward", "prefill"])
def test_nothing_but_decoding_fills_a_cache_beforehand(mode):
    assert flops.filling_flops(SMALL, Workload(batch_size=1, seq_len=1024, mode=mode)) == 0


# -- what that amounts to -------------------------------------------------------------------------


def test_a_sweep_has_a_column_of_mbu_where_a_point_of_it_decodes():
    decoding = recorded(LLAMA_3_8B, DECODE, 0.02)
    points = [
        Outcome(
            point=Point(
                key=str(i),
                name="",
                written={"batch_size": 16},
                question=Question(command="gptbench"),
            ),
            record=rec,
        )
        for i, rec in enumerate((decoding, ON_GPU))
    ]
    table = sweeps.table(points, ["batch_size"])
    at = [column.name for column in table.columns].index("MBU")
    assert table.rows[0][at].value == said(decoding).mbu
    assert table.rows[1][at] == DASH
    assert "MBU" not in [column.name for column in sweeps.table(points[1:], []).columns]


def test_mbu_is_that_of_mosaicml_s_example():
    """A model of 7B in 16 bits at 14 ms a token moves 1 TB/s: of 2 TB/s that is 50%.

    Agarwal et al. 2023, "LLM Inference Performance Engineering: Best Practices". They round: Llama
    2 7B has 6.6B weights that a token meets, and a cache of 128 tokens.
    """
    work = Workload(batch_size=1, seq_len=128, mode="decode", dtype="float16")
    assert said(recorded(LLAMA_2_7B, work, 0.014)).mbu == pytest.approx(0.5, abs=0.03)


def test_a_table_s_bandwidth_is_a_second_judge():
    found = said(recorded(LLAMA_3_8B, DECODE, 0.02, peak_bandwidth_bytes_per_s=4e12))
    assert found.peak_mbu == pytest.approx(found.mbu / 2)


def test_without_a_bandwidth_there_is_no_mbu():
    found = said(recorded(LLAMA_3_8B, DECODE, 0.02, bandwidth_bytes_per_s=None))
    assert (found.mbu, found.peak_mbu) == (None, None)


def test_sixteen_readers_of_fifty_tokens_a_second_are_eight_hundred():
    rec = recorded(LLAMA_3_8B, DECODE, 0.02)
    found = metrics.derive(rec)
    assert found.tokens_per_s.median == pytest.approx(800)
    assert found.inference.tokens_per_s_per_sequence == pytest.approx(50)
    assert found.inference.time_per_output_token_s.median == pytest.approx(0.02)
    assert found.inference.time_to_first_token_s is None


def test_a_prefill_has_a_time_to_first_token_and_no_mbu():
    rec = recorded(LLAMA_3_8B, replace(DECODE, mode="prefill"), 3.0)
    found = metrics.derive(rec)
    assert found.inference.time_to_first_token_s.median == pytest.approx(3.0)
    assert found.tokens_per_s.median == pytest.approx(16 * 4096 / 3)
    assert (found.inference.mbu, found.inference.needed) == (None, None)


@pytest.mark.parametrize("mode", ["train", "forward"])
def test_other_steps_say_nothing_of_serving(mode):
    rec = recorded(SMALL, Workload(batch_size=1, seq_len=64, mode=mode), 0.1)
    assert metrics.derive(rec).inference is None
    assert metrics.document(rec, metrics.derive(rec))["result"]["inference"] is None


# -- what is to be known of it --------------------------------------------------------------------


def codes(rec):
    return [c.code for c in metrics.derive(rec).caveats if c.code in inferences.SENTENCES]


def test_weights_that_a_cache_holds_make_an_mbu_doubtful():
    work = Workload(batch_size=1, seq_len=64, mode="decode")
    assert codes(recorded(SMALL, work, 0.001, cache_bytes=2**30)) == ["in-cache"]
    assert codes(recorded(SMALL, work, 0.001, cache_bytes=2**28)) == []


def test_more_than_the_memory_gave_is_doubtful_too():
    assert codes(recorded(LLAMA_3_8B, DECODE, 0.001)) == ["over-bandwidth"]


@pytest.mark.parametrize(
    ("caveat", "shown"),
    [
        (Caveat("in-cache", {"needed": 2**25, "cache": 2**26}), ("32.00 MiB", "64.00 MiB")),
        (Caveat("over-bandwidth", {"mbu": 1.25, "source": "sum, beside"}), ("125.0%", "sum, bes")),
    ],
    ids=lambda value: getattr(value, "code", ""),
)
def test_a_doubt_has_a_sentence_with_its_numbers(caveat, shown):
    assert all(words in caveats.sentence(caveat) for words in shown)


# -- how it is shown ------------------------------------------------------------------------------

DECODED = recorded(LLAMA_3_8B, DECODE, 0.02, peak_bandwidth_bytes_per_s=2.039e12)
PREFILLED = recorded(LLAMA_3_8B, replace(DECODE, mode="prefill"), 3.0)


def rows(rec):
    return {
        str(row[0]): tuple(map(str, row[1:]))
        for row in results.result(rec, metrics.derive(rec)).rows
    }


def test_a_decode_shows_its_time_a_token_and_its_bandwidth():
    shown = rows(DECODED)
    assert shown["time per output token (TPOT)"][0] == "20 ms"
    assert shown["tokens/s of a sequence"][0] == "50"
    assert shown["KV cache"][0] == "8.00 GiB"
    # 15,009,849,344 bytes of weights and 8 GiB of keys and values, 50 times a second.
    assert shown["MBU"][0] == "59.0%"
    assert shown["MBU of the table's peak"][0] == "57.9%"


def test_a_prefill_shows_its_time_to_first_token():
    shown = rows(PREFILLED)
    assert shown["time to first token (TTFT)"][0] == "3 s"
    assert "MBU" not in shown


@pytest.mark.parametrize("rec", [DECODED, PREFILLED], ids=["decode", "prefill"])
def test_the_csv_has_what_the_json_has(rec):
    tidy = frame.measurements([rec], samples=False).set_index("metric")["value"].to_dict()
    published = metrics.document(rec, metrics.derive(rec))["result"]["inference"]
    for name in ("tokens_per_s_per_sequence", "mbu", "peak_mbu", "kv_cache_bytes"):
        assert tidy.get(name) == published[name]
    for name in ("time_to_first_token_s", "time_per_output_token_s"):
        assert tidy.get(name) == (published[name] and published[name]["median"])


@pytest.mark.parametrize(
    ("rec", "says"),
    [(DECODED, "decodes at 800 tokens/s"), (PREFILLED, "reads prompts at 21,845 tokens/s")],
    ids=["decode", "prefill"],
)
def test_a_page_says_what_the_model_did(rec, says):
    assert says in pages.page([rec])


def test_a_record_of_before_bandwidths_reads_with_them_unknown():
    plain = {
        key: value
        for key, value in documents.to_builtins(ON_GPU.device).items()
        if key not in ("bandwidth_bytes_per_s", "bandwidth_source", "cache_bytes")
        and key != "peak_bandwidth_bytes_per_s"
    }
    assert documents.from_builtins(plain, DeviceUsed) == ON_GPU.device


def test_an_old_record_is_judged_by_the_bandwidth_that_the_table_has_today():
    """A100-SXM4-80GB: 2.039 TB/s."""
    used = metrics.with_current_peak(recorded(LLAMA_3_8B, DECODE, 0.02)).device
    assert used.peak_bandwidth_bytes_per_s == pytest.approx(2.039e12)
