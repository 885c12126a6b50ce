"""A law that is fitted to runs finds the one that they were made by."""

import json
import math
import random
from dataclasses import replace

import pytest

from gptbench import budget, documents, scaling, scaling_fit, trainrecord
from gptbench.errors import QuestionError
from gptbench.presets import load
from gptbench.report import scalings
from gptbench.runs import TrainingRun, Unfinished, read

PLANTED = next(law for law in scaling.LAWS if law.key == "besiroglu")
SIZES, LENGTHS = (5e7, 2e8, 1e9, 8e9), (1e9, 1e10, 1e11)


def made(noise=0.0, sizes=SIZES, lengths=LENGTHS, seed=0):
    scatter = random.Random(seed)
    return [
        TrainingRun(
            parameters=n, tokens=d, loss=PLANTED.loss(n, d) * math.exp(scatter.gauss(0, noise))
        )
        for n in sizes
        for d in lengths
    ]


@pytest.fixture(scope="module")
def exact():
    return scaling_fit.fit(made(), resamples=2)


@pytest.mark.parametrize("name", ["E", "A", "B", "alpha", "beta"])
def test_planted_numbers_are_found_again(exact, name):
    assert getattr(exact.law, name) == pytest.approx(getattr(PLANTED, name), rel=1e-4)


@pytest.mark.parametrize(
    ("loss", "what"),
    [(lambda n, d: 1.5 + 0.02 * math.log(n) + 400 / d**0.3, "larger models"),
     (lambda n, _: 1.5 + 400 / n**0.3, "more tokens")],
)  # fmt: skip
def test_runs_whose_loss_does_not_fall_have_no_best_division(loss, what):
    runs = [TrainingRun(parameters=n, tokens=d, loss=loss(n, d)) for n in SIZES for d in LENGTHS]
    with pytest.raises(QuestionError, match=f"do not show that {what} lower the loss"):
        scaling_fit.fit(runs, resamples=2)


def test_runs_of_the_law_itself_leave_nothing_over(exact):
    assert exact.rms < 1e-6
    assert exact.loose == ()


def test_one_bad_run_moves_the_law_little(exact):
    """A Huber loss counts what is far off by its distance and not by its square."""
    runs = made()
    runs[5] = TrainingRun(parameters=runs[5].parameters, tokens=runs[5].tokens, loss=9.0)
    assert scaling_fit.fit(runs, resamples=0).law.exponent == pytest.approx(
        PLANTED.exponent, rel=0.02
    )


@pytest.mark.slow
def test_intervals_hold_what_was_planted_and_grow_with_the_scatter():
    little, much = (scaling_fit.fit(made(noise), resamples=60) for noise in (0.001, 0.01))
    low, high = much.intervals["exponent"]
    assert low < PLANTED.exponent < high
    assert high - low > little.intervals["exponent"][1] - little.intervals["exponent"][0]


def test_the_gradient_is_that_of_the_sum():
    data = scaling_fit._data(made(0.01))
    at = scaling_fit.np.array([-1.0, -2.0, 0.5, 0.3, 0.4])
    _, gradient = scaling_fit._objective(at, data)
    for place in range(5):
        step = scaling_fit.np.eye(5)[place] * 1e-7
        rise = (
            scaling_fit._objective(at + step, data)[0] - scaling_fit._objective(at - step, data)[0]
        )
        assert gradient[place] == pytest.approx(rise / 2e-7, rel=1e-3)


@pytest.mark.parametrize(
    "runs",
    [made()[:5], made(sizes=(1e8, 1e9)), made(lengths=(1e9, 1e10))],
    ids=["too few", "two sizes", "two lengths"],
)
def test_runs_that_determine_no_law_are_refused(runs):
    with pytest.raises(QuestionError, match="do not determine a law of five numbers"):
        scaling_fit.fit(runs)


# -- where runs are read from ---------------------------------------------------------------------

ROWS = [
    {"parameters": 1e8, "tokens": 2e9, "loss": 3.5},
    {"parameters": {"total": 2e8, "active": 1e8}, "tokens": 4e9, "loss": 3.25},
]
RUNS = (
    TrainingRun(parameters=1e8, tokens=2e9, loss=3.5),
    TrainingRun(parameters=2e8, tokens=4e9, loss=3.25),
)


def test_a_list_of_runs_is_read(tmp_path):
    file = tmp_path / "runs.json"
    file.write_text(json.dumps(ROWS))
    assert read([file]).runs == RUNS


def test_a_csv_of_runs_is_read(tmp_path):
    file = tmp_path / "runs.csv"
    file.write_text("name,parameters,tokens,loss\na,1e8,2e9,3.5\nb,200000000,4e9,3.25\n")
    assert read([file]).runs == RUNS


def trained(folder, rec, *, loss=1.5, **facts):
    """A training of GPT-2 small that read 103 x 64 tokens, in its own folder."""
    last = replace(rec.trained.evaluations[-1], validation_loss=loss)
    done = replace(rec.trained, evaluations=(*rec.trained.evaluations[:-1], last))
    changed = replace(rec, **{"model": load("gpt2-small"), "trained": done, **facts})
    folder.mkdir()
    (folder / "train.json").write_text(documents.dump_json(trainrecord.document(changed)))
    return folder / "train.json"


def test_the_records_of_trainings_below_a_folder_are_read(tmp_path, training_record):
    for name, loss in (("a", 1.5), ("b", 1.25)):
        trained(tmp_path / name, training_record, loss=loss)
    found = read([tmp_path]).runs
    assert [run.loss for run in found] == [1.5, 1.25]
    assert {(run.parameters, run.tokens) for run in found} == {(124_439_808, 103 * 64)}


def test_what_a_record_derived_is_not_believed(tmp_path, training_record):
    file = trained(tmp_path / "a", training_record)
    document = json.loads(file.read_text())
    document["result"] = {"tokens": 1, "last": {"validation_loss": 9.0}}
    file.write_text(json.dumps(document))
    (run,) = read([file]).runs
    assert (run.tokens, run.loss) == (103 * 64, 1.5)


@pytest.mark.parametrize("stop", ["target", "time"])
def test_a_training_that_did_not_run_to_its_end_is_left_out(tmp_path, training_record, stop):
    whole = trained(tmp_path / "a", training_record)
    cut = replace(training_record.trained, steps=90, stop=stop)
    file = trained(tmp_path / "b", training_record, trained=cut)
    found = read([tmp_path])
    assert found.runs == read([whole]).runs
    assert found.unfinished == (Unfinished(file=str(file), steps=90, steps_asked=103),)


def test_a_fit_says_what_it_left_out(exact):
    cut = Unfinished(file="b/train.json", steps=90, steps_asked=103)
    said = "Left out: 'b/train.json', which stopped after 90 of 103 steps."
    assert scalings.runs(exact, (cut,)).notes == (said,)


def test_too_few_runs_are_said_with_those_left_out(tmp_path, training_record):
    cut = replace(training_record.trained, steps=90, stop="time")
    trained(tmp_path / "b", training_record, trained=cut)
    with pytest.raises(QuestionError, match=r"0 runs .* were left out: '.*b/train\.json'\.$"):
        budget.answer(budget.Question(fit=(tmp_path,)))


def test_losses_of_two_tokenizers_are_not_fitted_together(tmp_path, training_record):
    trained(tmp_path / "a", training_record)
    other = replace(training_record.corpus, key="cd")
    trained(tmp_path / "b", training_record, corpus=other, tokenizer="bpe")
    says = r"a/train\.json' \(text\.txt, char, corpus ab\) and .*\(text\.txt, bpe, corpus cd\)"
    with pytest.raises(QuestionError, match=says):
        read([tmp_path])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.json", "{", "is not JSON"),
        ("x.json", "[1]", "is no object with parameters, tokens, loss"),
        ("x.json", '[{"parameters": 1, "tokens": 2}]', "has no 'loss'"),
        ("x.json", '{"parameters": 1, "tokens": 0, "loss": 2}', "tokens = 0 is not a number over"),
        ("x.json", '{"trained": {}}', "is no result of gptbench: it has no schema_version"),
        ("x.csv", "parameters,tokens,loss\n1,2,much\n", "loss = 'much' is not a number over 0"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_file_that_holds_no_runs_is_refused_by_name(tmp_path, name, content, says):
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(QuestionError, match=says) as caught:
        read([file])
    assert name in str(caught.value)


@pytest.mark.parametrize("what", ["nowhere.json", "."])
def test_runs_that_are_not_there_are_refused(tmp_path, what):
    with pytest.raises(QuestionError, match=r"cannot read|there is no train\.json"):
        read([tmp_path / what])
