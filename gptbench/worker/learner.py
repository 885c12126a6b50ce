"""A model, all that trains it, and what has happened to it: fresh, or as it was kept."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from gptbench.training import TrainTask
from gptbench.worker import checkpoint, corpus, evaluate, exercises, resume, step, tokenizer, update
from gptbench.worker.memory_limit import PeakMemory
from gptbench.worker.model import GPT
from gptbench.worker.resume import History
from gptbench.worker.tokenizer import Tokenizer
from gptbench.worker.update import Update


@dataclass(slots=True)
class Learner:
    """What a training works on; `unseen` is what the validation loss is of.

    Of the `steps_here` of this process, those of the last run took `step_s` each. The process
    `began_ns` by its clock, the history knows of its time until `told_ns`, and the model was last
    kept at `kept_ns`.
    """

    task: TrainTask
    device: torch.device
    model: GPT
    tokenizer: Tokenizer
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    update: Update
    unseen: Tensor
    exercises: list[str]
    history: History
    peak: PeakMemory
    step_s: float = 0.0
    steps_here: int = 0
    began_ns: int = field(default_factory=time.perf_counter_ns)
    told_ns: int = field(default_factory=time.perf_counter_ns)
    kept_ns: int = field(default_factory=time.perf_counter_ns)


def prepared(task: TrainTask, device: torch.device) -> Learner:
    """A fresh model with the seed's weights, or the one that was kept, as it was.

    Raises QuestionError where what was kept was trained otherwise.
    """
    work, recipe = task.workload, task.recipe
    peak = PeakMemory(device)
    step.set_precision(work)
    torch.manual_seed(recipe.seed)
    with device:
        model = GPT(task.model, work.attention, work.recompute, recipe.dropout).train()
    optimizer = update.optimizer_of(model, recipe)
    scaler = update.scaler_of(work, device)
    history = History()
    if task.resume:
        history = _gone_on(task, model, optimizer, scaler, device)
    run: nn.Module = torch.compile(model) if work.compile else model  # type: ignore[assignment]
    words = tokenizer.read(Path(task.token_cache, task.corpus.key))
    _, unseen = corpus.read(Path(task.token_cache), task.corpus)
    most = task.eval_batches * work.batch_size
    return Learner(
        task=task,
        device=device,
        model=model,
        tokenizer=words,
        optimizer=optimizer,
        scaler=scaler,
        update=update.updating(run, optimizer, scaler, task, device),
        unseen=evaluate.stretches(unseen, work.seq_len + 1, most),
        exercises=exercises.lines(unseen, words, task.exercises, task.model.n_ctx),
        history=history,
        peak=peak,
    )


def _gone_on(
    task: TrainTask,
    model: GPT,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    device: torch.device,
) -> History:
    """Fill the model and what trains it from the checkpoint; what had happened until then."""
    assert task.checkpoint is not None
    folder = Path(task.checkpoint)
    state = checkpoint.load_state(folder)
    resume.require_same(task, state.facts, task.checkpoint)
    model.load_state_dict(checkpoint.load_weights(folder, model))
    history = resume.restore(state, optimizer, scaler, device, task.checkpoint)
    history.resumed_at.append(history.step)
    return history
