"""Text from a folder, gptbench's or transformers': what is told, what is written, what is refused."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gptbench.cli import main as cli
from gptbench.config import ModelConfig
from gptbench.errors import GptbenchError, QuestionError
from gptbench.generation import ExportTask, GenerateTask, Piece, Sampling
from gptbench.process import quiet
from gptbench.report import texts
from gptbench.worker import checkpoint, tokenizer
from gptbench.worker.export import export
from gptbench.worker.generate import generate
from gptbench.worker.model import GPT

torch.set_num_threads(1)

ROOT = Path(__file__).parent.parent
SAMPLE = "To be, or not to be: that is the question.\nWhether 'tis nobler in the mind\n" * 4
GREEDY = Sampling(temperature=0)


def tiny(vocab_size, **facts):
    sizes = {"n_layers": 2, "d_model": 32, "n_heads": 4, "n_ctx": 24, "activation": "gelu_tanh"}
    return ModelConfig(name="tiny", **{**sizes, **facts}, vocab_size=vocab_size)


def random_model(config):
    torch.manual_seed(0)
    model = GPT(config, "math")
    with torch.no_grad():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def checkpoint_of(folder, kind="char", **facts):
    """A checkpoint of gptbench with random weights."""
    vocabulary = tokenizer.train(kind, [SAMPLE], 300)
    checkpoint.save(folder, random_model(tiny(vocabulary.vocab_size, **facts)), vocabulary)
    return folder


@pytest.fixture
def own(tmp_path):
    return checkpoint_of(tmp_path / "own")


def asked(folder, *prompts, **facts):
    facts = {"tokens": 20, "sampling": Sampling(), **facts}
    return GenerateTask(checkpoint=str(folder), prompts=prompts or ("To",), device="cpu", **facts)


def told(task):
    """The pieces as they came, and what it all was."""
    pieces, parts = [], generate(task, quiet)
    while True:
        try:
            pieces.append(next(parts))
        except StopIteration as end:
            return pieces, end.value


def text_of(folder, *prompts, **facts):
    _, generated = told(asked(folder, *prompts, **facts))
    return [written.text for written in generated.sequences]


# -- what is told -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_the_pieces_are_the_texts(tmp_path, kind):
    task = asked(checkpoint_of(tmp_path / kind, kind), "To", "question", samples=2, tokens=30)
    pieces, generated = told(task)
    for number, written in enumerate(generated.sequences):
        assert written.text == "".join(p.text for p in pieces if p.sequence == number)
    assert [w.prompt for w in generated.sequences] == ["To", "To", "question", "question"]
    assert [w.tokens for w in generated.sequences] == [30] * 4


def test_a_piece_comes_before_the_text_is_whole(own):
    parts = generate(asked(own), quiet)
    assert len(next(parts).text) == 1


def test_the_same_seed_writes_the_same_text_with_a_cache_and_without(own):
    assert text_of(own, "To", tokens=40) == text_of(own, "To", tokens=40, cache=False)


def test_a_batch_writes_what_each_prompt_has_alone(own):
    alone = [text_of(own, prompt)[0] for prompt in ("To be", "q", "that is")]
    assert text_of(own, "To be", "q", "that is") == alone


def test_a_sample_is_the_text_of_its_own_seed(own):
    assert text_of(own, samples=2, seed=7) == [*text_of(own, seed=7), *text_of(own, seed=8)]


def test_a_stop_ends_the_text_in_front_of_it(own):
    (whole,) = text_of(own)
    stop = whole[5:7]
    _, generated = told(asked(own, stop=(stop,)))
    (written,) = generated.sequences
    assert (written.text, written.end) == (whole[: whole.index(stop)], "stop")


def test_a_context_that_was_full_is_said(own):
    _, generated = told(asked(own, tokens=60))
    assert generated.sequences[0].forgotten == 3  # to read the 25th token, the 38th and the 51st
    assert "full 3 times" in texts.forgotten(generated)


def test_times_are_of_what_was_written(own):
    _, generated = told(asked(own, "To", "q", tokens=5))
    assert min(generated.first_token_s, generated.decode_s, generated.load_s) > 0
    assert generated.tokens_per_s == pytest.approx(2 * 4 / generated.decode_s)


def test_a_single_token_has_no_rate_of_those_behind_it(own):
    _, generated = told(asked(own, tokens=1))
    assert generated.tokens_per_s is None


def test_the_folder_of_a_training_has_its_checkpoint_in_it(tmp_path, own):
    (tmp_path / "run").mkdir()
    own.rename(tmp_path / "run" / "checkpoint")
    assert text_of(tmp_path / "run") == text_of(tmp_path / "run" / "checkpoint")


# -- transformers' folders --------------------------------------------------------------------


def transformers():
    """The library, without which the test that asks for it alone is skipped."""
    return pytest.importorskip("transformers", minversion="5.0")


def theirs(folder, kind="gpt2", **options):
    """A folder that transformers has saved, with a tokenizer of 300 tokens at the most."""
    library = transformers()
    vocabulary = tokenizer.train("bpe", [SAMPLE], 300)
    sizes = {
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 24},
        "llama": {
            "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 24,
        },
    }[kind]  # fmt: skip
    ids = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
    config = library.AutoConfig.for_model(
        kind, vocab_size=vocabulary.vocab_size, **{**sizes, **ids, **options}
    )
    torch.manual_seed(0)
    model = library.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    vocabulary.save(folder)
    return model, vocabulary


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_greedy_text_is_that_of_transformers_own_generate(tmp_path, kind):
    model, vocabulary = theirs(tmp_path, kind)
    ids = torch.tensor([vocabulary.encode("To be")])
    whole = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=10
    )
    expected = vocabulary.decode(whole[0].tolist())
    assert "To be" + text_of(tmp_path, "To be", tokens=10, sampling=GREEDY)[0] == expected


def test_a_token_that_ends_a_text_is_that_of_the_config(tmp_path):
    model, vocabulary = theirs(tmp_path)
    ids = torch.tensor([vocabulary.encode("To be")])
    third = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=3
    )[0, -1]
    edit(tmp_path / "config.json", eos_token_id=int(third))
    _, generated = told(asked(tmp_path, "To be", sampling=GREEDY))
    (written,) = generated.sequences
    assert written.end == "end of text"
    assert written.tokens <= 3


def test_a_token_that_the_tokenizer_puts_in_front_is_read_first(tmp_path):
    """As Llama's: tokenizer.json has a template with <s>, config.json says that it begins a text."""
    from tokenizers import processors  # noqa: PLC0415

    _, vocabulary = theirs(tmp_path, bos_token_id=7)
    name = vocabulary.wrapped.id_to_token(7)
    vocabulary.wrapped.post_processor = processors.TemplateProcessing(
        single=f"{name} $A", special_tokens=[(name, 7)]
    )
    vocabulary.save(tmp_path)
    _, generated = told(asked(tmp_path, "To be"))
    assert generated.sequences[0].prompt_tokens == len(vocabulary.encode("To be")) + 1


# -- export -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
@torch.no_grad()
def test_transformers_reads_model_and_tokenizer_of_what_is_exported(tmp_path, kind):
    folder = checkpoint_of(tmp_path / "own", kind)
    (tmp_path / "out").mkdir()
    exported = export(ExportTask(checkpoint=str(folder), out=str(tmp_path / "out")), quiet)
    twin = transformers().AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    words = transformers().AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = words("To be, or not to be", return_tensors="pt").input_ids
    ours, vocabulary = checkpoint.load_model(folder, torch.device("cpu"), torch.float32)
    assert ids[0].tolist() == vocabulary.encode("To be, or not to be")
    assert torch.allclose(twin(ids).logits, ours(ids), rtol=1e-5, atol=1e-5)
    assert (exported.kind, exported.dtype) == ("gpt2", "float32")


def test_what_is_exported_writes_the_same_text(tmp_path, own):
    (tmp_path / "out").mkdir()
    export(ExportTask(checkpoint=str(own), out=str(tmp_path / "out")), quiet)
    assert text_of(tmp_path / "out") == text_of(own)


@torch.no_grad()
def test_weights_are_exported_in_the_dtype_asked_for(tmp_path, own):
    (tmp_path / "out").mkdir()
    task = ExportTask(checkpoint=str(own), out=str(tmp_path / "out"), dtype="bfloat16")
    assert export(task, quiet).dtype == "bfloat16"
    twin = transformers().AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert twin.dtype == torch.bfloat16


def test_a_model_of_another_architecture_leaves_no_model_behind(tmp_path):
    folder = checkpoint_of(tmp_path / "own", tied_head=False, head_bias=True)
    (tmp_path / "out").mkdir()
    with pytest.raises(QuestionError, match="its head_bias is true"):
        export(ExportTask(checkpoint=str(folder), out=str(tmp_path / "out")), quiet)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_export_does_not_mix_with_a_model_that_is_there(capsys, own):
    assert cli.main(["export", str(own), "--out", str(own)]) == 2
    assert "holds a model already" in capsys.readouterr().err


def test_an_export_does_not_mix_with_weights_that_have_lost_their_config(capsys, own, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model-00001-of-00002.safetensors").write_bytes(b"")
    assert cli.main(["export", str(own), "--out", str(tmp_path / "out")]) == 2
    assert "holds a model already" in capsys.readouterr().err


def test_a_checkpoint_that_was_put_aside_is_read_and_exported(tmp_path):
    """As a save leaves it that is killed between its two renames."""
    whole = checkpoint_of(tmp_path / "own")
    before = text_of(whole)
    whole.rename(tmp_path / ".own.old")
    assert text_of(whole) == before
    (tmp_path / "out").mkdir()
    export(ExportTask(checkpoint=str(whole), out=str(tmp_path / "out")), quiet)
    assert text_of(tmp_path / "out") == before


# -- what is refused --------------------------------------------------------------------------


def edit(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def poison(folder):
    """A pickle under the name of the weights, which makes a file when it is loaded."""

    class Touch:
        def __reduce__(self):
            return os.system, (f"touch {folder / 'owned'}",)

    (folder / "model.safetensors").write_bytes(pickle.dumps(Touch()))


def other_tokenizer(folder):
    tokenizer.train("char", ["abc"]).save(folder)


BROKEN = {
    "a truncated checkpoint": (truncate, r"model\.safetensors' "),
    "a pickle": (poison, r"model\.safetensors' "),
    "another tokenizer": (other_tokenizer, "has .* tokens.* its model .*do not belong together"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), r"has no tokenizer\.json"),
    "a broken tokenizer": (lambda f: (f / "tokenizer.json").write_text("{"), "is no tokenizer"),
    "a broken config": (lambda f: (f / "config.json").write_text("{"), r"config\.json.*JSON"),
    "no config": (lambda f: (f / "config.json").unlink(), r"holds no config\.json"),
}


@pytest.mark.parametrize("whose", ["own", "theirs"])
@pytest.mark.parametrize("how", BROKEN)
def test_a_folder_that_is_broken_is_refused(tmp_path, whose, how):
    folder = tmp_path / "folder"
    if whose == "own":
        checkpoint_of(folder)
    else:
        theirs(folder)
        # Of transformers a table of tokens may be padded, and never cut.
        other = tokenizer.train("bpe", [SAMPLE + "šů" * 99], 320)
    break_it, why = BROKEN[how]
    if (whose, how) == ("theirs", "another tokenizer"):
        other.save(folder)
    else:
        break_it(folder)
    with pytest.raises(QuestionError, match=why):
        told(asked(folder))
    assert not (folder / "owned").exists()


@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        ("é", "the character 'é' is not among"),
        ("", "the prompt is empty"),
        ("To be, or not to be: that", "25 tokens, over the context of 'tiny', which is 24"),
    ],
)
def test_a_prompt_that_cannot_be_read_is_refused(own, prompt, why):
    with pytest.raises(QuestionError, match=why):
        told(asked(own, prompt))


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"prompts": ("\udcff",)}, "is not UTF-8 text"),
        ({"stop": ("",)}, "--stop '' stands in front of every text"),
        ({"checkpoint": "nowhere"}, "there is no folder 'nowhere'"),
    ],
)
def test_a_question_that_cannot_be_is_refused_before_anything_starts(own, facts, why):
    task = {"checkpoint": str(own), "prompts": ("a",), "tokens": 1, "sampling": GREEDY, **facts}
    with pytest.raises(QuestionError, match=why):
        GenerateTask(**task)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there_is_refused(own):
    task = asked(own)
    with pytest.raises(GptbenchError, match="there is no CUDA device here"):
        next(generate(GenerateTask(**{**as_facts(task), "device": "cuda"}), quiet))


def as_facts(task):
    return {name: getattr(task, name) for name in task.__slots__}


# -- the command ------------------------------------------------------------------------------


def stream_of(task, pieces, generated, *, terminal):
    shown = []
    stream = texts.Stream(shown.append, task, terminal=terminal)
    for piece in pieces:
        stream.tell(piece)
    stream.close(generated)
    return "".join(shown)


def test_texts_stand_behind_their_prompts_with_an_empty_line_between(own):
    task = asked(own, "To", "q")
    pieces, generated = told(task)
    first, second = (written.text for written in generated.sequences)
    shown = stream_of(task, pieces, generated, terminal=False)
    assert shown == f"To{first}".removesuffix("\n") + f"\n\nq{second}".removesuffix("\n") + "\n"


def test_a_terminal_is_given_nothing_that_moves_its_cursor(own):
    task = asked(own, "To")
    _, generated = told(task)
    shown = stream_of(task, [Piece(sequence=0, text="\x1b[2Ja\tb\n")], generated, terminal=True)
    assert shown.startswith("To\N{REPLACEMENT CHARACTER}[2Ja\tb\n")


def test_the_command_gives_stdout_the_text_and_stderr_the_speed(own):
    done = subprocess.run(
        [sys.executable, "-m", "gptbench", "generate", own, "--prompt", "To", "-n", "8"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == "To" + text_of(own, tokens=8)[0].removesuffix("\n") + "\n"
    assert "2 tokens read" in done.stderr
    assert "tokens/s; 8 in all, on cpu, measured once." in done.stderr


def test_json_has_the_texts_and_what_was_asked(capsys, own):
    words = ["generate", str(own), "--prompt", "To", "-n", "8", "--seed", "5", "--format", "json"]
    assert cli.main([*words, "--device", "cpu", "--top-k", "3"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (
        document["sequences"][0]["text"]
        == text_of(own, tokens=8, seed=5, sampling=Sampling(top_k=3))[0]
    )
    assert document["asked"]["sampling"] == {"temperature": 1.0, "top_k": 3, "top_p": 1.0}
    assert document["result"]["tokens_per_s"] > 0
