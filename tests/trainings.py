"""A training with numbers that a pencil checks."""

from gptbench.corpus import Corpus
from gptbench.training import Evaluation, Recipe, Trained
from gptbench.trainrecord import TrainRecord


def look(step, train_loss, validation_loss):
    """Steps of 10 ms, and as long again for everything else."""
    return Evaluation(
        step=step,
        train_ns=step * 10_000_000,
        wall_ns=step * 20_000_000,
        train_loss=train_loss,
        validation_loss=validation_loss,
    )


def learned(measured):
    """A training of what a record measured: 103 steps of 64 tokens in 1.5 s.

    The first three of them took half a second.
    """
    return TrainRecord(
        schema_version=1,
        gptbench_version="0.1.0",
        command="gptbench train tiny --data text.txt",
        started_at="2026-01-02T03:04:05+00:00",
        model=measured.model,
        workload=measured.workload,
        device=measured.device,
        data="text.txt",
        tokenizer="char",
        corpus=Corpus(key="ab", vocab_size=32, train_tokens=3296, validation_tokens=400),
        recipe=Recipe(
            steps=103,
            learning_rate=1e-3,
            warmup_steps=10,
            weight_decay=0.1,
            grad_clip=1.0,
            dropout=0.0,
            seed=1,
        ),
        eval_tokens=384,
        target_loss=2.0,
        trained=Trained(
            steps=103,
            stop="steps",
            evaluations=(look(0, None, 3.5), look(50, 2.5, 1.9), look(103, 1.8, 2.1)),
            train_losses=(3.0, 2.0, 1.8),
            loss_every=50,
            train_ns=1_500_000_000,
            warm_ns=500_000_000,
            warm_steps=3,
            loader_ns=15_000_000,
            wall_ns=2_000_000_000,
            resumed_at=(),
            solved_before=None,
            solved_after=None,
            peak_memory_bytes=2**20,
            environment={"torch": "2.13.0"},
        ),
    )
