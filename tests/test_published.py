"""The question of `gptbench mfu`: its words, its answer, and what it refuses."""

import json

import pytest

from gptbench import published
from gptbench.cli import main as cli
from gptbench.errors import QuestionError, UnknownNameError
from gptbench.published import Question
from gptbench.report import published as report


def asked(**facts):
    return published.answer(Question(**{"model": "gpt2-small", "gpu": "a100", **facts}))


def answer(capsys, *words):
    status = cli.main(["mfu", "gpt2-small", *words])
    said = capsys.readouterr()
    return status, said.out, said.err


# nanoGPT's README: GPT-2 small, 300B tokens in about 4 days on 8 A100 40GB, so 868k tokens/s.
NANOGPT = ["--tokens-per-s", "868k", "--gpu", "a100-sxm4-40gb", "--n-gpus", "8"]


def test_nanogpts_run_has_the_mfu_of_its_own_formula(capsys):
    # 855,166,464 FLOPs a token (ran), over 8 x 312 TFLOP/s.
    _, out, _ = answer(capsys, *NANOGPT, "--format", "json")
    by = json.loads(out)["conventions"]["nanogpt"]
    assert by["flops_per_token"] == 855_166_464
    assert by["mfu"] == pytest.approx(868_000 * 855_166_464 / (8 * 312e12))


def test_nanogpts_run_takes_the_four_days_that_it_took():
    found = asked(tokens_per_s="868k", n_gpus=8, tokens="300B")
    assert found.time_s(found.exact) / 86400 == pytest.approx(4, abs=0.01)
    assert found.gpu_hours(found.exact) == pytest.approx(8 * 96, rel=0.01)


def test_a_claimed_mfu_is_turned_into_its_throughput_and_time():
    # 45% of 312 TFLOP/s are 140.4 TFLOP/s: over 854,438,400 a token, 164,318 tokens/s.
    found = asked(mfu="45%", tokens="1B")
    assert found.exact.tokens_per_s == pytest.approx(140.4e12 / 854_438_400)
    assert found.time_s(found.exact) == pytest.approx(1e9 * 854_438_400 / 140.4e12)


@pytest.mark.parametrize("mfu", ["0.45", "45%", "45 %", "4.5e-1"])
def test_an_mfu_is_a_fraction_or_a_percentage(mfu):
    assert asked(mfu=mfu).claimed_mfu == pytest.approx(0.45)


def test_without_tokens_there_is_no_time():
    found = asked(mfu="45%")
    assert (found.time_s(found.exact), found.gpu_hours(found.exact)) == (None, None)


def test_a_short_name_stands_for_variants_of_one_peak():
    judge = asked(mfu="45%", gpu="a100").setting.judge
    assert judge.peak_flops_per_s == 312e12
    assert judge.peak_source.startswith("all 4 variants of a100, dense bfloat16: NVIDIA A100")


@pytest.mark.parametrize("dtype", ["fp8", "float8"])
def test_dtypes_that_only_peaks_have_are_known(dtype):
    # H100 architecture whitepaper: 1978.9 TFLOP/s dense.
    found = asked(mfu="45%", gpu="h100-sxm5-80gb", dtype=dtype)
    assert found.setting.judge.peak_flops_per_s == 1978.9e12


def test_a_device_of_ones_own_judges_too(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("device_id,marketing_name,name_regex,bf16_tflops\nmine,Mine,Mine,100\n")
    found = asked(mfu="45%", gpu="mine", devices=file)
    assert (found.setting.judge.name, found.setting.judge.peak_flops_per_s) == ("Mine", 100e12)


def test_a_stated_peak_needs_no_gpu():
    judge = asked(mfu="45%", gpu=None, peak="125TFLOP/s").setting.judge
    assert (judge.peak_flops_per_s, judge.peak_source) == (125e12, "stated: --peak 125TFLOP/s")


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({}, "exactly one of the two"),
        ({"tokens_per_s": "1k", "mfu": "45%"}, "exactly one of the two"),
        ({"mfu": "45"}, "'45' is not a share of 1. Type one such as 0.45 or 45%."),
        ({"mfu": "0%"}, "'0%' is not a share"),
        ({"mfu": "101%"}, "'101%' is not a share"),
        ({"tokens_per_s": "many"}, "'many' is not a number of tokens"),
        ({"mfu": "45%", "tokens": "0"}, "'0' is not a number of tokens"),
        ({"mfu": "45%", "gpu": None}, "Type --gpu with a name"),
        ({"mfu": "45%", "gpu": "v100"}, "'v100' has no known bfloat16 peak. Type --dtype with one of: float64, float32, float16"),
        ({"mfu": "45%", "gpu": "h100"}, "h100-sxm5-80gb 989.4 TFLOP/s, h100-pcie-80gb 756.0 TFLOP/s"),
        ({"mfu": "45%", "dtype": "bf61"}, "unknown dtype 'bf61'"),
        ({"mfu": "45%", "peak": "fast"}, "'fast' is not a peak rate"),
        ({"mfu": "45%", "seq_len": 2048}, "seq_len = 2048 is over the context"),
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_question_is_answered_with_what_to_type(facts, says):
    with pytest.raises(QuestionError) as refusal:
        asked(**facts)
    assert says in str(refusal.value)


def test_an_unknown_gpu_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="Nearest: 'a100'"):
        asked(mfu="45%", gpu="a1000")


# -- the command ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        *(f"conventions.{key}.{n}" for key in ("exact", "litgpt")
          for n in ("flops_per_token", "mfu", "hfu")),
        *(f"device.{k}" for k in ("name", "peak_flops_per_s", "peak_source")),
        "model.name",
        "diagnoses",
    ],
)  # fmt: skip
def test_an_answer_keeps_the_keys_that_others_rely_on(path):
    value = published.document(asked(mfu="45%"))
    for key in path.split("."):
        value = value[key]
    assert value is not None


@pytest.mark.parametrize("form", ["table", "json", "csv", "markdown"])
@pytest.mark.parametrize("words", [NANOGPT, ["--mfu", "45%", "--gpu", "a100", "--tokens", "1T"]])
def test_an_answer_comes_in_every_form(capsys, words, form):
    status, out, err = answer(capsys, *words, "--format", form)
    assert (status, err) == (0, "")
    assert "llm_foundry" in out


def test_an_impossible_mfu_is_shown_then_explained_then_an_error(capsys):
    status, out, err = answer(capsys, "--tokens-per-s", "868k", "--gpu", "a100")
    note, error = err.splitlines()
    assert status == 4
    assert "237.7%" in out
    assert "type --n-gpus 8" in note
    assert error.startswith("Error: an MFU of 237.7% is impossible")


def test_a_diagnosis_is_in_the_json_with_its_numbers(capsys):
    words = ["--tokens-per-s", "868k", "--gpu", "a100", "--format", "json"]
    _, out, _ = answer(capsys, *words)
    (found,) = json.loads(out)["diagnoses"]
    assert (found["code"], found["n_gpus"]) == ("all-gpus", 8)


@pytest.mark.parametrize(
    ("facts", "columns"),
    [
        ({"tokens_per_s": "868k", "n_gpus": 8}, ["FLOP/s per GPU", "MFU", "HFU"]),
        ({"mfu": "45%"}, ["tokens/s", "HFU"]),
        ({"mfu": "45%", "tokens": "1B"}, ["tokens/s", "HFU", "time", "GPU-hours"]),
    ],
    ids=str,
)
def test_a_table_has_the_columns_of_its_question(facts, columns):
    table = report.table(asked(**facts))
    assert [c.name for c in table.columns] == ["convention", "FLOPs per token", *columns]
    assert {len(row) for row in table.rows} == {len(table.columns)}


def test_time_at_a_throughput_is_the_same_in_every_convention_and_said_once():
    table = report.table(asked(tokens_per_s="868k", n_gpus=8, tokens="300B"))
    assert table.notes[0] == "300,000,000,000 tokens take 4.00 days: 768 GPU-hours."


@pytest.mark.parametrize("recompute", ["none", "attention", "block"])
def test_a_table_says_what_its_hfu_adds(recompute):
    table = report.table(asked(mfu="45%", recompute=recompute))
    assert report.RECOMPUTED[recompute] in table.notes
