"""Train a model on a text: update, look, keep; until it is done.

    every step:         update the weights                      (update.py, loader.py)
    now and then:       look at the loss on unseen text         (evaluate.py)
    after each look:    keep the model, unless its loss rises   (checkpoint.py, resume.py)

Steps come in runs with nothing between them. After a run the device is waited for, and the losses
are read.
"""

import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch

from gptbench.errors import UnavailableError
from gptbench.training import Evaluation, Trained, TrainTask
from gptbench.units import percent, si
from gptbench.worker import checkpoint, corpus, evaluate, exercises, resume
from gptbench.worker.divergence import DIVERGED_STEPS, RISEN_STEPS, diverged, rising
from gptbench.worker.environment import environment
from gptbench.worker.learner import Learner, prepared
from gptbench.worker.loader import Loader

# What is being done, and the seconds that are left; 0 where nobody knows.
Progress = Callable[[str, float], None]

# About so long is a run of steps.
RUN_S = 0.5

# The first steps of a process compile, start threads and fill caches: no rate is made of them.
WARM_STEPS = 3

# The model is kept at least this often.
KEEP_S = 60.0

# Points of the record's curve; of more steps the means of some are one.
MOST_LOSSES = 1000


def train(task: TrainTask, progress: Progress) -> Trained:
    """Train the task's model, and keep it where the task says.

    Raises QuestionError where it cannot go on from what was kept, and UnavailableError where the
    loss is no number any more or grows: what was kept before stays.
    """
    device = torch.device(task.device)
    progress("building the model", 0.0)
    learner = prepared(task, device)
    history = learner.history
    if not history.evaluations:
        history.solved_before = solved(learner)
        look(learner)
        keep(learner)
    with loader_of(learner) as loader:
        while (stop := ended(learner)) is None:
            run_until(next_look(learner), learner, loader, progress)
            look(learner)
            over = ended(learner) is not None
            if over:
                refuse_divergence(learner, last=RISEN_STEPS)
            # What diverges is known for certain later, and must not have replaced what was good.
            if over or not rising(history.losses):
                keep(learner)
    note_memory(learner)
    return answer(learner, stop)


def loader_of(learner: Learner) -> Loader:
    """The batches of the steps that are still to come."""
    task, work = learner.task, learner.task.workload
    ids, _ = corpus.read(Path(task.token_cache), task.corpus)
    return Loader(
        ids,
        rows=work.grad_accum * work.batch_size,
        length=work.seq_len + 1,
        seed=task.recipe.seed,
        first=learner.history.step,
        device=learner.device,
    )


# -- steps -------------------------------------------------------------------------------------


def run_until(last: int, learner: Learner, loader: Loader, progress: Progress) -> None:
    """Steps up to `last`, or until the time is over."""
    history = learner.history
    while history.step < last and not out_of_time(learner):
        run_steps(min(last - history.step, steps_of_a_run(learner)), learner, loader)
        progress(live(learner), (learner.task.recipe.steps - history.step) * learner.step_s)
        if time.perf_counter_ns() - learner.kept_ns > KEEP_S * 1e9 and not rising(history.losses):
            keep(learner)


def steps_of_a_run(learner: Learner) -> int:
    """The first ones apart, then as many as the last ones say."""
    if learner.steps_here < WARM_STEPS:
        return WARM_STEPS - learner.steps_here
    return max(1, round(RUN_S / learner.step_s))


def run_steps(steps: int, learner: Learner, loader: Loader) -> None:
    """A run of steps, and then their losses and times into the history."""
    history, waited_ns = learner.history, loader.waited_ns
    began_ns = time.perf_counter_ns()
    losses = [learner.update(loader.next(), history.step + i) for i in range(steps)]
    history.losses += torch.stack(losses).tolist()  # waits for the device
    taken_ns = time.perf_counter_ns() - began_ns
    history.step += steps
    history.train_ns += taken_ns
    history.loader_ns += loader.waited_ns - waited_ns
    if learner.steps_here < WARM_STEPS:
        history.warm_ns += taken_ns
        history.warm_steps += steps
    learner.steps_here += steps
    learner.step_s = taken_ns / steps / 1e9
    refuse_divergence(learner)


def live(learner: Learner) -> str:
    """The line that is seen while a model trains."""
    task, history = learner.task, learner.history
    rate = task.workload.tokens / learner.step_s
    peak = task.peak_flops_per_s
    mfu = f", MFU {percent(rate * task.flops_per_token / peak)}" if peak else ""
    return (
        f"step {history.step:,} of {task.recipe.steps:,}: loss "
        f"{statistics.fmean(history.losses[-20:]):.3f}, {si(rate, 'tokens/s', 3)}{mfu}"
    )


# -- looks -------------------------------------------------------------------------------------


def next_look(learner: Learner) -> int:
    """The step after which somebody looks at the validation loss."""
    every = learner.task.eval_every
    return min(learner.task.recipe.steps, (learner.history.step // every + 1) * every)


def look(learner: Learner) -> None:
    """The loss on unseen text, into the history."""
    history = learner.history
    since = history.evaluations[-1].step if history.evaluations else 0
    if history.evaluations and history.step == since:
        return
    losses = history.losses[since:]
    found = Evaluation(
        step=history.step,
        train_ns=history.train_ns,
        wall_ns=pass_time(learner),
        train_loss=statistics.fmean(losses) if losses else None,
        validation_loss=evaluate.loss(
            learner.model, learner.unseen, learner.task.workload, learner.device
        ),
    )
    refuse_divergence(learner, found)
    history.evaluations.append(found)


def solved(learner: Learner) -> float | None:
    """The share of the exercises that the model solves, where it is given any."""
    if not learner.exercises:
        return None
    return exercises.exact_match(
        learner.model, learner.tokenizer, learner.exercises, learner.device
    )


def refuse_divergence(learner: Learner, *looks: Evaluation, last: int = DIVERGED_STEPS) -> None:
    """Raise UnavailableError where there is no use in going on, `looks` taken now included.

    The `last` losses are judged: at the end, where nothing shows whether they fall again, a few.
    """
    history = learner.history
    seen = [e.validation_loss for e in (*history.evaluations, *looks)]
    became = diverged(history.losses, seen, last)
    if became is not None:
        raise UnavailableError(
            f"the training diverges: by step {history.step:,} the loss has become {became}. "
            f"{kept(learner)} {advice(learner.task)}"
        )


# -- what is kept ------------------------------------------------------------------------------


def keep(learner: Learner) -> None:
    """Write the checkpoint, whole or not at all; never weights that are no numbers."""
    task, history = learner.task, learner.history
    if task.checkpoint is None:
        return
    if not all(bool(p.isfinite().all()) for p in learner.model.parameters()):
        raise UnavailableError(
            f"the training diverges: by step {history.step:,} some weights are no numbers. "
            f"{kept(learner)} {advice(task)}"
        )
    pass_time(learner)
    note_memory(learner)
    state = resume.state_of(task, history, learner.optimizer, learner.scaler, learner.device)
    checkpoint.save(Path(task.checkpoint), learner.model, learner.tokenizer, state)
    learner.kept_ns = time.perf_counter_ns()


def kept(learner: Learner) -> str:
    """A sentence: which model there is."""
    place = learner.task.checkpoint
    if place is None or not checkpoint.standing(Path(place)).exists():
        return "Nothing was kept."
    step = checkpoint.load_state(Path(place)).facts["history"]["step"]
    return f"The model of step {step:,} is in '{place}'."


def advice(task: TrainTask) -> str:
    """A sentence: what can be typed. What is kept goes on only as it began, with the same rate."""
    where = " in another --out" if task.checkpoint else ""
    return f"Begin again{where} with a --learning-rate below {task.recipe.learning_rate:g}."


# -- the end -----------------------------------------------------------------------------------


def ended(learner: Learner) -> Literal["steps", "target", "time"] | None:
    """Why the training is over, if it is."""
    task, history = learner.task, learner.history
    loss = history.evaluations[-1].validation_loss
    if task.target_loss is not None and loss <= task.target_loss:
        return "target"
    if history.step >= task.recipe.steps:
        return "steps"
    return "time" if out_of_time(learner) else None


def answer(learner: Learner, stop: Literal["steps", "target", "time"]) -> Trained:
    """How it went, with a curve of no more points than can be seen."""
    history = learner.history
    losses, at_once = history.losses, max(1, math.ceil(history.step / MOST_LOSSES))
    starts = range(0, len(losses), at_once)
    return Trained(
        steps=history.step,
        stop=stop,
        evaluations=tuple(history.evaluations),
        train_losses=tuple(statistics.fmean(losses[at : at + at_once]) for at in starts),
        loss_every=at_once,
        train_ns=history.train_ns,
        warm_ns=history.warm_ns,
        warm_steps=history.warm_steps,
        loader_ns=history.loader_ns,
        wall_ns=history.wall_ns,
        resumed_at=tuple(history.resumed_at),
        solved_before=history.solved_before,
        solved_after=solved(learner),
        peak_memory_bytes=history.peak_memory_bytes,
        environment=environment(learner.device),
    )


def note_memory(learner: Learner) -> None:
    """The most memory that any process of this training held, into the history."""
    held = learner.peak.read().memory_bytes
    before = learner.history.peak_memory_bytes
    if held is not None:
        learner.history.peak_memory_bytes = max(held, before or 0)


def out_of_time(learner: Learner) -> bool:
    """Whether this process has trained for as long as it may."""
    passed_s = (time.perf_counter_ns() - learner.began_ns) / 1e9
    return learner.task.time_s is not None and passed_s >= learner.task.time_s


def pass_time(learner: Learner) -> int:
    """Wall time of all processes of this training until now, which the history takes note of."""
    now_ns = time.perf_counter_ns()
    learner.history.wall_ns += now_ns - learner.told_ns
    learner.told_ns = now_ns
    return learner.history.wall_ns
