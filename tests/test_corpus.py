"""Text from where it is, as a file of tokens."""

import json
import os
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch

from gptbench.corpus import CorpusTask, parse_source, parse_tokenizer
from gptbench.errors import QuestionError, UnavailableError
from gptbench.process import quiet
from gptbench.worker import algebra, corpus, evaluate, exercises, loader, sources, tokenizer

TEXT = "To be, or not to be:\nthat is the question.\n" * 40


def made(data, cache, kind="char", size=0):
    source = parse_source(str(data))
    task = CorpusTask(
        source=source, tokenizer=kind, tokenizer_size=size, seed=1, cache=str(cache / "cache")
    )
    return corpus.corpus(task, quiet)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


# -- the token file ----------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "size"), [("char", 0), ("byte", 0), ("bpe", 300)])
def test_the_tokens_are_those_of_the_text(kind, size, file, tmp_path):
    found = made(file, tmp_path, kind, size)
    train, validation = corpus.read(tmp_path / "cache", found)
    words = tokenizer.read(tmp_path / "cache" / found.key)
    assert words.decode([*train, *validation]) == TEXT
    assert words.vocab_size == found.vocab_size


def test_the_last_tenth_is_kept_for_validation(file, tmp_path):
    found = made(file, tmp_path, "byte")
    assert found.validation_tokens == len(TEXT) // 10
    assert found.train_tokens == len(TEXT) - len(TEXT) // 10


def test_a_text_is_turned_into_tokens_once(file, tmp_path):
    first = made(file, tmp_path)
    before = (tmp_path / "cache" / first.key / "tokens.bin").stat().st_mtime_ns
    assert made(file, tmp_path) == first
    assert (tmp_path / "cache" / first.key / "tokens.bin").stat().st_mtime_ns == before


def test_another_text_and_another_tokenizer_are_other_tokens(file, tmp_path):
    first = made(file, tmp_path)
    other = made(file, tmp_path, "byte")
    file.write_text(TEXT.replace("be", "he"))
    assert len({first.key, other.key, made(file, tmp_path).key}) == 3


def test_small_vocabularies_have_ids_of_two_bytes(file, tmp_path):
    found = made(file, tmp_path)
    assert (tmp_path / "cache" / found.key / "tokens.bin").stat().st_size == 2 * len(TEXT)


def test_nothing_is_left_of_making_tokens(file, tmp_path):
    found = made(file, tmp_path)
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [found.key]


@pytest.mark.parametrize(
    ("name", "content"),
    [("tokens.bin", b"ab"), ("corpus.json", b"{}"), ("corpus.json", b"{"), ("corpus.json", None)],
)
def test_tokens_that_are_not_whole_are_made_again(name, content, file, tmp_path):
    first = made(file, tmp_path)
    whole = (tmp_path / "cache" / first.key / name).read_bytes()
    (tmp_path / "cache" / first.key / name).unlink()
    if content is not None:
        (tmp_path / "cache" / first.key / name).write_bytes(content)
    assert made(file, tmp_path) == first
    assert (tmp_path / "cache" / first.key / name).read_bytes() == whole


def test_what_a_process_that_is_dead_has_half_made_is_removed(file, tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    cache = tmp_path / "cache"
    for process in (dead.pid, os.getpid()):
        (cache / f".making-{platform.node()}-{process}-x_y").mkdir(parents=True)
    made(file, tmp_path)
    left = {path.name for path in cache.glob(".making-*")}
    assert left == {f".making-{platform.node()}-{os.getpid()}-x_y"}


# -- sources -----------------------------------------------------------------------------------


def test_a_folder_is_its_files_in_the_order_of_their_names(tmp_path):
    folder = tmp_path / "texts"
    (folder / "b").mkdir(parents=True)
    (folder / "b" / "2.md").write_text("two\n")
    (folder / "a.txt").write_text("one\n")
    (folder / "c.bin").write_bytes(b"\xff")
    text = sources.of(parse_source(str(folder)), 1)
    assert "".join(text.all()) == "one\ntwo\n"


def test_each_file_of_a_folder_begins_a_line(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, content in (("a", "one"), ("b", ""), ("c", "two\n"), ("d", "three")):
        (folder / f"{name}.txt").write_text(content)
    text = sources.of(parse_source(str(folder)), 1)
    assert "".join(text.all()).split() == ["one", "two", "three"]
    assert "".join(text.train()).endswith("two\nthree")


def test_the_same_text_divided_otherwise_is_another(monkeypatch):
    one = sources.of(parse_source("algebra:50"), 1)
    monkeypatch.setattr(sources, "VALIDATION_SHARE", 0.5)
    other = sources.of(parse_source("algebra:50"), 1)
    assert "".join(one.all()) == "".join(other.all())
    assert one.key != other.key


def test_a_text_of_several_pieces_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "PIECE_BYTES", 7)
    path = tmp_path / "t"
    path.write_text("é🙂 first\nsecond line\n\nthird, without an end")
    pieces = list(sources.of(parse_source(str(path)), 1).train())
    assert "".join(pieces) == path.read_text()
    assert all(piece.endswith("\n") for piece in pieces[:-1] if piece)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "empty"), (b"ab\xffcd", r"not UTF-8.*0xff"), (b"ab\xc3", "not UTF-8.*0xc3")],
)
def test_a_file_that_is_no_text_is_refused_in_a_sentence(content, said, tmp_path):
    path = tmp_path / "t"
    path.write_bytes(content)
    with pytest.raises(QuestionError, match=said):
        made(path, tmp_path)


def test_a_folder_without_text_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(QuestionError, match=r"no file \.txt or \.md"):
        made(tmp_path / "empty", tmp_path)


def test_a_data_set_needs_its_library(tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(sources.importlib, "import_module", missing)
    with pytest.raises(UnavailableError, match=r"gptbench\[datasets\]"):
        made("datasets:anything", tmp_path)


@pytest.fixture
def set_folder(tmp_path):
    """A data set as files of JSON lines, one a split."""
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"n": 1, "body": "one"}\n{"n": 2, "body": "two"}\n')
    (folder / "test.jsonl").write_text('{"n": 3, "body": "three"}\n')
    return folder


def test_a_data_set_in_a_folder_is_its_column_of_text(set_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hub"))
    pytest.importorskip("datasets")
    text = sources.of(parse_source(f"datasets:{set_folder}"), 1)
    assert "".join(text.train()) == "one\ntwo\n"
    assert "".join(text.validation()) == "three\n"


def test_a_data_set_that_was_saved_is_read_too(set_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hub"))
    datasets = pytest.importorskip("datasets")
    datasets.load_dataset(str(set_folder)).save_to_disk(str(tmp_path / "saved"))
    text = sources.of(parse_source(f"datasets:{tmp_path / 'saved'}"), 1)
    assert "".join(text.all()) == "one\ntwo\nthree\n"


# -- what is typed -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "kind", "lines"), [("algebra", "algebra", 100_000), ("algebra:7", "algebra", 7)]
)
def test_algebra_may_say_how_many_lines(typed, kind, lines):
    found = parse_source(typed)
    assert (found.kind, found.lines) == (kind, lines)


@pytest.mark.parametrize("typed", ["algebra:", "algebra:x", "algebra:1", "algebra:99999999999"])
def test_a_number_of_lines_that_cannot_be_is_refused(typed):
    with pytest.raises(QuestionError, match="number from 2 to 10,000,000"):
        parse_source(typed)


@pytest.mark.parametrize("typed", ["word", "char:9", "bpe:10", "bpe:", ""])
def test_a_tokenizer_that_cannot_be_is_refused(typed):
    with pytest.raises(QuestionError, match=r"bpe"):
        parse_tokenizer(typed)


# -- arithmetic --------------------------------------------------------------------------------


def test_every_line_is_true():
    for line in algebra.lines(3000, 1):
        expression, _, value = line.strip().partition("=")
        assert eval(expression) == int(value)  # noqa: S307 - digits, brackets and three signs


def test_no_line_is_there_twice_so_that_none_is_trained_and_asked():
    text = sources.of(parse_source("algebra:5000"), 1)
    train, asked = ("".join(part()).splitlines() for part in (text.train, text.validation))
    assert len({*train, *asked}) == len(train) + len(asked) == 5000
    assert len(asked) == 500


def test_lines_have_every_sign_and_brackets_on_both_sides():
    found = "".join(algebra.lines(500, 1))
    assert all(sign in found for sign in ("+", "-", "*", "\n(", ")="))


def test_the_same_seed_makes_the_same_lines_and_another_one_others():
    assert algebra.lines(50, 1) == algebra.lines(50, 1) != algebra.lines(50, 2)


class Knowing:
    """A model that answers from a list, or with a zero where it is not there."""

    training = False

    def __init__(self, words, lines):
        self.words, self.lines = words, lines

    def eval(self):
        pass

    def train(self, _training):
        pass

    def __call__(self, tokens):
        logits = torch.zeros(*tokens.shape, self.words.vocab_size)
        for row, ids in enumerate(tokens.tolist()):
            said = self.words.decode(ids)
            longer = (line for line in self.lines if line.startswith(said) and line != said)
            line = next(longer, f"{said}0")
            logits[row, -1, self.words.encode(line)[len(ids)]] = 1
        return logits


def test_an_exercise_is_solved_when_all_digits_and_the_end_of_the_line_are_right():
    words = tokenizer.Characters("0123456789+-*()=\n")
    asked = ["1+1=2", "5*5=25", "9-12=-3", "2+2=4"]
    known = ["1+1=2\n", "5*5=25\n", "9-12=-3\n", "2+2=44\n"]
    model = Knowing(words, known)
    assert exercises.exact_match(model, words, asked, torch.device("cpu")) == 0.75


def test_a_token_with_the_first_part_of_an_answer_is_not_given(tmp_path):
    """BPE makes one token of '=-', which a text has in front of every negative answer."""
    file = tmp_path / "lines.txt"
    file.write_text("".join(f"{n}-{n + 7}=-7\n{n}+1={n + 1}\n" for n in range(100)))
    made(file, tmp_path, "bpe", 300)
    words = tokenizer.train("bpe", iter([file.read_text()]), 300)
    assert "=-" in {words.decode([token]) for token in range(words.vocab_size)}
    exercise = exercises._exercise("3-10=-7", words)
    assert words.decode(exercise.given) + exercise.answer == "3-10=-7\n"
    assert exercise.answer == "=-7\n"


def test_exercises_are_whole_lines_of_the_text():
    words = tokenizer.Characters("0123456789+=\n")
    ids = np.array(words.encode("1+1=2\n2+2=4\n3+3="), dtype=np.uint16)
    assert exercises.lines(ids, words, 9, context=16) == ["1+1=2", "2+2=4"]


def test_exercises_that_a_context_has_no_room_for_are_left_out():
    """The end of the line is a token too: '1+1=2' needs six."""
    words = tokenizer.Characters("0123456789+=\n")
    ids = np.array(words.encode("1+1=2\n12+12=24\n2+2=4\n"), dtype=np.uint16)
    assert exercises.lines(ids, words, 9, context=6) == ["1+1=2", "2+2=4"]


# -- batches -----------------------------------------------------------------------------------


def test_a_batch_is_consecutive_tokens_and_depends_on_seed_and_step_alone():
    ids = np.arange(1000, dtype=np.uint16)
    found = loader.batch(ids, rows=3, length=9, seed=1, step=4)
    assert (np.diff(found, axis=1) == 1).all()
    assert (found == loader.batch(ids, 3, 9, 1, 4)).all()
    assert (found != loader.batch(ids, 3, 9, 1, 5)).any()
    assert (found != loader.batch(ids, 3, 9, 2, 4)).any()


def test_the_last_token_is_read_too():
    ids = np.arange(10, dtype=np.uint16)
    assert loader.batch(ids, rows=200, length=4, seed=1, step=0).max() == 9


def test_a_loader_begins_where_it_is_told_and_goes_on():
    ids = np.arange(1000, dtype=np.uint16)
    with loader.Loader(
        ids, rows=2, length=5, seed=1, first=7, device=torch.device("cpu")
    ) as batches:
        found = [batches.next().numpy() for _ in range(6)]
    assert all((a == loader.batch(ids, 2, 5, 1, 7 + i)).all() for i, a in enumerate(found))


def test_what_fails_in_the_thread_fails_where_the_batch_is_used():
    with (
        loader.Loader(
            np.arange(3), rows=1, length=9, seed=1, first=0, device=torch.device("cpu")
        ) as batches,
        pytest.raises(ValueError, match="high"),
    ):
        batches.next()


class FakeTensor:
    def __init__(self):
        self.pinned = False

    def pin_memory(self):
        self.pinned = True
        return self


def test_batches_for_a_gpu_lie_in_pinned_memory():
    assert loader.pinned(FakeTensor(), torch.device("cuda")).pinned
    assert not loader.pinned(FakeTensor(), torch.device("cpu")).pinned


def test_stretches_for_the_validation_loss_cover_the_text_without_overlap():
    found = evaluate.stretches(np.arange(101), length=11, most=100)
    assert [row[0] for row in found.tolist()] == list(range(0, 100, 10))


def test_fewer_stretches_are_spread_over_all_of_the_text():
    found = evaluate.stretches(np.arange(101), length=11, most=5)
    assert [row[0] for row in found.tolist()] == [0, 20, 40, 60, 80]


def test_the_facts_beside_the_tokens_say_how_many_there_are(file, tmp_path):
    found = made(file, tmp_path)
    facts = json.loads((tmp_path / "cache" / found.key / "corpus.json").read_text())
    assert facts["train_tokens"] == found.train_tokens
