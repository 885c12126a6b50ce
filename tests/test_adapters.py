"""MFUMeter in real, tiny trainings of other people's frameworks, on a clock that their models move.

A training batch takes a second, one of a validation 100 s, a checkpoint 1000 s. So what an adapter
counts as training is plain to see, and exact.
"""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from fakes import FakeClock
from gptbench.errors import QuestionError
from gptbench.meter import MFUMeter

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", minversion="5.0")
lightning = pytest.importorskip("pytorch_lightning")
accelerate = pytest.importorskip("accelerate")
summaries = pytest.importorskip("torch.utils.tensorboard")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: E402

from gptbench.adapters import accelerate as accelerated  # noqa: E402
from gptbench.adapters import lightning as lit  # noqa: E402
from gptbench.adapters import tensorboard, trainer  # noqa: E402
from gptbench.adapters.batches import tokens_of  # noqa: E402
from gptbench.adapters.devices import drain  # noqa: E402
from gptbench.adapters.scalars import scalars, warned  # noqa: E402

# What the frameworks warn of is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")

LENGTH = 8
BATCH = 2
TOKENS = BATCH * LENGTH

CONFIG = transformers.GPT2Config(
    vocab_size=32, n_layer=1, n_head=2, n_embd=8, bos_token_id=None, eos_token_id=None
)


class TimedLMHeadModel(transformers.GPT2LMHeadModel):
    """transformers' GPT-2, whose work takes time by a clock of its own."""

    def __init__(self, clock):
        torch.manual_seed(0)
        super().__init__(CONFIG)
        self.clock = clock
        self.register_forward_pre_hook(lambda *_: clock.passes(1 if self.training else 100))

    def save_pretrained(self, *args, **kwargs):
        self.clock.passes(1000)
        return super().save_pretrained(*args, **kwargs)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Models this small only wait for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def model(clock):
    return TimedLMHeadModel(clock)


def meter_of(clock, **facts):
    usual = {"seq_len": LENGTH, "skip": 1, "peak_flops_per_s": 1e6, "clock": clock}
    return MFUMeter(CONFIG, **{**usual, **facts})


def texts(batches):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 32, (BATCH * batches, LENGTH), generator=generator)


def curves(folder):
    """{tag: [(step, value), ...]} of what was written for TensorBoard below a folder."""
    found = {}
    for file in Path(folder).rglob("events*"):
        events = EventAccumulator(str(file)).Reload()
        for tag in events.Tags()["scalars"]:
            found[tag] = [(e.step, e.value) for e in events.Scalars(tag)]
    return found


# -- Lightning --------------------------------------------------------------------------------


class Lit(lightning.LightningModule):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def training_step(self, batch, _):
        return self.model(input_ids=batch, labels=batch).loss

    def validation_step(self, batch, _):
        self.model(input_ids=batch)

    def on_save_checkpoint(self, _):
        self.model.clock.passes(1000)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(model, folder, *callbacks, batches=8, **options):
    data = torch.utils.data.DataLoader(texts(batches), batch_size=BATCH)
    usual = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": lightning.loggers.CSVLogger(folder),
        "log_every_n_steps": 1,
        "enable_checkpointing": False,
        "limit_val_batches": 0,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
    }
    torch.manual_seed(0)  # for dropout
    taken = lightning.Trainer(callbacks=list(callbacks), **{**usual, **options})
    taken.fit(Lit(model), data, data)
    return taken


def test_lightning_meters_updates_of_several_batches(model, clock, tmp_path):
    meter = meter_of(clock)
    fit(model, tmp_path, lit.MFUCallback(meter), accumulate_grad_batches=2)
    found = meter.compute()
    assert (found.n_steps, found.tokens, found.window_s) == (3, 6 * TOKENS, 6.0)


def test_lightnings_loggers_get_the_numbers_of_each_interval(model, clock, tmp_path):
    meter = meter_of(clock)
    done = fit(model, tmp_path, lit.MFUCallback(meter), log_every_n_steps=4)
    with (Path(done.logger.log_dir) / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["4", "8"]
    assert [float(row["tokens_per_s"]) for row in rows] == [TOKENS, TOKENS]
    assert float(rows[-1]["mfu"]) == meter.compute().mfu


def test_lightnings_validations_and_checkpoints_are_pauses(model, clock, tmp_path):
    meter = meter_of(clock)
    options = {"val_check_interval": 4, "limit_val_batches": 1, "enable_checkpointing": True}
    keep = lightning.callbacks.ModelCheckpoint(tmp_path, every_n_train_steps=3)
    fit(model, tmp_path, lit.MFUCallback(meter), keep, **options)
    found = meter.compute()
    # Steps 2 to 8; checkpoints after 3 and 6, a validation after 4; the one after 8 ends nothing.
    assert (found.n_steps, found.window_s, found.paused_s) == (7, 7.0, 2100.0)


def test_lightning_trains_the_same_with_a_meter(model, clock, tmp_path):
    other = TimedLMHeadModel(clock)
    fit(model, tmp_path, lit.MFUCallback(meter_of(clock)))
    fit(other, tmp_path)
    assert_same_weights(model, other)


def test_lightning_is_refused_a_meter_of_other_devices_before_a_step(model, clock, tmp_path):
    before = clock.now_ns
    # Half a device is none: this is one process.
    callback = lit.MFUCallback(meter_of(clock))
    pretended = SimpleNamespace(world_size=2, global_step=0)
    with pytest.raises(QuestionError, match=r"world_size = 1, but 2 processes train"):
        callback.on_train_start(pretended, None)
    assert clock.now_ns == before


class Witness(lightning.Callback):
    """What each process has metered, as a file of its own."""

    def __init__(self, meter, folder):
        self.meter, self.folder = meter, folder

    def on_train_end(self, trainer, _):
        found = self.meter.compute()
        facts = [found.n_steps, found.tokens, found.tokens_per_s]
        Path(self.folder, f"{trainer.global_rank}.json").write_text(json.dumps(facts))


@pytest.mark.slow
def test_two_processes_of_lightning_read_twice_the_tokens(model, clock, tmp_path):
    meter = meter_of(clock, world_size=2)
    options = {"devices": 2, "strategy": "ddp_fork", "batches": 16}
    fit(model, tmp_path, lit.MFUCallback(meter), Witness(meter, tmp_path), **options)
    both = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert both == [[7, 14 * TOKENS, 2 * TOKENS]] * 2


def assert_same_weights(model, other):
    own, others = model.state_dict(), other.state_dict()
    assert all(torch.equal(own[name], others[name]) for name in own)


# -- Trainer ----------------------------------------------------------------------------------


def train(model, folder, *callbacks, batches=8, **options):
    data = [{"input_ids": row, "labels": row} for row in texts(batches)]
    usual = {
        "output_dir": str(folder),
        "per_device_train_batch_size": BATCH,
        "per_device_eval_batch_size": BATCH,
        "max_steps": batches,
        "logging_steps": 4,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    taken = transformers.Trainer(
        model,
        transformers.TrainingArguments(**{**usual, **options}),
        train_dataset=data,
        eval_dataset=data[:BATCH],
        callbacks=list(callbacks),
    )
    taken.train()
    return taken


COUNTED = {"include_num_input_tokens_seen": "all"}


@pytest.mark.parametrize(
    ("tokens_per_step", "options"),
    [
        (None, COUNTED),
        (2 * TOKENS, {}),
        (lambda args, _: args.gradient_accumulation_steps * TOKENS, {}),
    ],
    ids=["Trainer's count", "a number", "a function"],
)
def test_trainers_updates_are_metered(model, clock, tmp_path, tokens_per_step, options):
    meter = meter_of(clock)
    callback = trainer.MFUCallback(meter, tokens_per_step)
    train(model, tmp_path, callback, max_steps=4, gradient_accumulation_steps=2, **options)
    found = meter.compute()
    assert (found.n_steps, found.tokens, found.window_s) == (3, 6 * TOKENS, 6.0)


def test_trainers_log_has_the_numbers_where_it_has_a_loss(model, clock, tmp_path):
    meter = meter_of(clock)
    options = {"eval_strategy": "steps", "eval_steps": 4, **COUNTED}
    done = train(model, tmp_path, trainer.MFUCallback(meter), **options)
    entries = [e for e in done.state.log_history if "mfu" in e]
    assert [(e["step"], e["tokens_per_s"]) for e in entries] == [(4, TOKENS), (8, TOKENS)]
    assert all("loss" in e for e in entries)
    assert entries[-1]["mfu"] == meter.compute().mfu


def test_reporters_behind_the_callback_get_the_numbers(model, clock, tmp_path):
    reporter = transformers.integrations.TensorBoardCallback(
        summaries.SummaryWriter(str(tmp_path / "curves"))
    )
    meter = meter_of(clock)
    train(model, tmp_path, trainer.MFUCallback(meter, TOKENS), reporter)
    steps, values = zip(*curves(tmp_path / "curves")["train/mfu"], strict=True)
    assert steps == (4, 8)
    assert values[-1] == pytest.approx(meter.compute().mfu)


def test_trainers_evaluations_and_checkpoints_are_pauses(model, clock, tmp_path):
    meter = meter_of(clock)
    options = {
        "eval_strategy": "steps",
        "eval_steps": 4,
        "save_strategy": "steps",
        "save_steps": 3,
        **COUNTED,
    }
    train(model, tmp_path, trainer.MFUCallback(meter), **options)
    found = meter.compute()
    # Steps 2 to 8; checkpoints after 3 and 6, an evaluation after 4; what follows 8 is in no step.
    assert (found.n_steps, found.window_s, found.paused_s) == (7, 7.0, 2100.0)


def test_trainers_evaluations_between_epochs_are_pauses(model, clock, tmp_path):
    meter = meter_of(clock)
    options = {"max_steps": 8, "eval_strategy": "epoch", **COUNTED}
    train(model, tmp_path, trainer.MFUCallback(meter), batches=4, **options)
    found = meter.compute()
    assert (found.n_steps, found.window_s, found.paused_s) == (7, 7.0, 100.0)


def test_trainer_trains_the_same_with_a_meter(model, clock, tmp_path):
    other = TimedLMHeadModel(clock)
    train(model, tmp_path, trainer.MFUCallback(meter_of(clock), TOKENS))
    train(other, tmp_path)
    assert_same_weights(model, other)


def test_trainer_is_refused_a_meter_that_cannot_count_before_a_step(model, clock, tmp_path):
    before = clock.now_ns
    with pytest.raises(QuestionError, match="a callback of Trainer sees no batches"):
        train(model, tmp_path, trainer.MFUCallback(meter_of(clock)))
    assert clock.now_ns == before


# -- Accelerate -------------------------------------------------------------------------------


def loop(model, meter, accelerator, batches=8):
    """Updates of two batches, with an evaluation after the second update and a log after each."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = torch.utils.data.DataLoader(texts(batches), batch_size=BATCH)
    model, optimizer, data = accelerator.prepare(model, optimizer, data)
    updates = 0
    for batch in data:
        with accelerator.accumulate(model):
            accelerator.backward(model(input_ids=batch, labels=batch).loss)
            optimizer.step()
            optimizer.zero_grad()
        accelerated.count(meter, accelerator, batch)
        updates += accelerator.sync_gradients
        if accelerator.sync_gradients:
            accelerated.log(meter, accelerator, updates)
        if accelerator.sync_gradients and updates == 2:
            with accelerated.paused(meter, accelerator), torch.no_grad():
                model.eval()
                model(input_ids=batch)
                model.train()


@pytest.fixture
def accelerator(tmp_path):
    made = accelerate.Accelerator(
        cpu=True, gradient_accumulation_steps=2, log_with="tensorboard", project_dir=str(tmp_path)
    )
    made.init_trackers("curves")
    yield made
    made.end_training()


def test_accelerates_updates_are_metered_and_evaluations_are_pauses(model, clock, accelerator):
    meter = meter_of(clock)
    loop(model, meter, accelerator)
    found = meter.compute()
    assert (found.n_steps, found.tokens) == (3, 6 * TOKENS)
    assert (found.window_s, found.paused_s) == (6.0, 100.0)


def test_accelerates_trackers_get_the_numbers(model, clock, accelerator, tmp_path):
    meter = meter_of(clock)
    loop(model, meter, accelerator)
    accelerator.end_training()
    found = curves(tmp_path)
    assert found["tokens_per_s"] == [(step, TOKENS) for step in (2, 3, 4)]
    assert found["mfu"][-1][1] == pytest.approx(meter.compute().mfu)


def each_process(folder):
    """What one of two processes meters and logs, as a file of its own."""
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    clock, logged = FakeClock(), []
    model = TimedLMHeadModel(clock)
    accelerator.log = lambda values, step: logged.append((step, values["tokens_per_s"]))
    meter = meter_of(clock, world_size=2)
    loop(model, meter, accelerator, batches=16)
    found = meter.compute()
    facts = [found.n_steps, found.tokens, found.tokens_per_s, logged]
    Path(folder, f"{accelerator.process_index}.json").write_text(json.dumps(facts))


@pytest.mark.slow
def test_two_processes_read_twice_the_tokens_and_one_of_them_logs(tmp_path):
    # Processes are forked, and would go on with what this one knows of itself.
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.debug_launcher(each_process, (str(tmp_path),), num_processes=2)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == [3, 12 * TOKENS, 2 * TOKENS, [[step, 2 * TOKENS] for step in (2, 3, 4)]]
    assert second == [3, 12 * TOKENS, 2 * TOKENS, []]


# -- TensorBoard ------------------------------------------------------------------------------


def test_tensorboard_has_the_numbers_under_their_names(clock, tmp_path):
    meter = meter_of(clock)
    meter.step(TOKENS)
    clock.passes(2)
    meter.step(TOKENS)
    with summaries.SummaryWriter(str(tmp_path)) as writer:
        tensorboard.log(writer, meter.compute(), 7)
    found = curves(tmp_path)
    assert sorted(found) == ["train/hfu", "train/mfu", "train/step_time_s", "train/tokens_per_s"]
    assert found["train/tokens_per_s"] == [(7, TOKENS / 2)]
    assert found["train/step_time_s"] == [(7, 2.0)]


# -- what they share --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "batch",
    [
        torch.zeros(2, 5),
        (torch.zeros(2, 5), torch.zeros(3)),
        {"labels": torch.zeros(3), "input_ids": torch.zeros(2, 5)},
        transformers.BatchEncoding({"input_ids": torch.zeros(2, 5)}),
    ],
    ids=["tensor", "tuple", "dict", "BatchEncoding"],
)
def test_tokens_of_a_batch_are_the_numbers_of_its_input_ids(batch):
    assert tokens_of(batch) == 10


@pytest.mark.parametrize("batch", [{"text": ["a"]}, "text", (), None], ids=repr)
def test_a_batch_without_input_ids_is_refused(batch):
    with pytest.raises(QuestionError, match="has no input_ids to count"):
        tokens_of(batch)


def test_what_is_unknown_is_no_number(clock):
    assert scalars(meter_of(clock).compute()) == {}


@pytest.mark.parametrize("facts", [{"peak_flops_per_s": 1}, {"peak_flops_per_s": None}])
def test_a_missing_mfu_is_warned_of(clock, facts):
    meter = meter_of(clock, **facts)
    meter.step(TOKENS)
    clock.passes(1)
    meter.step(TOKENS)
    with pytest.warns(UserWarning, match="gptbench: no MFU: (an MFU of|no device is named)"):
        found = warned(meter.compute())
    assert "mfu" not in scalars(found)


class Queue:
    """As torch.accelerator on a machine that has one."""

    def __init__(self, kind):
        self.kind, self.waited_for = kind, []

    def current_accelerator(self):
        return None if self.kind is None else torch.device(self.kind)

    def synchronize(self, device):
        self.waited_for.append(device)


@pytest.mark.parametrize(
    ("kind", "device", "waits"),
    [("cuda", "cuda:1", True), ("cuda", "cpu", False), (None, "cpu", False)],
)
def test_a_pause_waits_for_the_device_that_trains_and_no_other(kind, device, waits):
    queue, device = Queue(kind), torch.device(device)
    drain(device, queue)
    assert queue.waited_for == ([device] if waits else [])


def test_devices_are_waited_for_by_torchs_own_words():
    assert {"current_accelerator", "synchronize"} <= set(dir(torch.accelerator))
