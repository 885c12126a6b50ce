"""The byte ledger: what a training step holds at its peak, predicted.

Legend, for every formula of this module:

    B = batch_size   T = seq_len    L = n_layers   V = vocab_size
    D = d_model      F = d_ff       H = d_head     N = n_heads    P = parameters

It starts the search for the largest batch and is corrected by the probes; it never decides.
"""

from dataclasses import dataclass

from gptbench import flops
from gptbench.config import DTYPE_BYTES, ModelConfig, Workload

FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes at the peak of a step, which is where the loss's gradient enters the backward pass."""

    parameters: int
    gradients: int
    optimizer: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        return self.parameters + self.gradients + self.optimizer + self.activations + self.logits


def footprint(model: ModelConfig, work: Workload) -> Footprint:
    """The predicted peak of a step of `work`."""
    P = flops.parameters(model).total
    stored = FLOAT32_BYTES if work.autocast else DTYPE_BYTES[work.dtype]
    # Autocast keeps a copy of every weight in the dtype that multiplies, until the step ends.
    copies = P * DTYPE_BYTES[work.dtype] if work.autocast else 0
    training = work.mode == "train"
    return Footprint(
        parameters=P * stored + copies,
        gradients=P * stored if training else 0,
        optimizer=2 * P * stored if training else 0,  # AdamW's two moments
        activations=_activations(model, work) if training else 0,
        logits=_logits(model, work),
    )


def _activations(model: ModelConfig, work: Workload) -> int:
    """What the blocks save for the backward pass.

    A token and layer: the stream in front of both norms (2·D), what the norms gave (2·D), queries,
    keys and values (3·N·H), the mixed values (N·H), the MLP before and after its nonlinearity
    (2·F). Written out, attention adds the scores before and after the softmax and their mask.
    """
    B, T, L = work.batch_size, work.seq_len, model.n_layers
    D, F, NH = model.d_model, model.d_ff, model.n_heads * model.d_head
    size = DTYPE_BYTES[work.dtype]
    stream = 2 * D * (FLOAT32_BYTES if work.autocast else size)
    token = stream + (2 * D + 4 * NH + 2 * F) * size
    scores = model.n_heads * T * (2 * size + 1) if work.attention == "math" else 0
    return B * T * L * (token + scores)


def _logits(model: ModelConfig, work: Workload) -> int:
    """The logits and their float32 log-probabilities; in training the gradients of both."""
    tensors = 3 if work.mode == "train" else 2
    return work.tokens * model.vocab_size * FLOAT32_BYTES * tensors


def affine(model: ModelConfig, work: Workload) -> tuple[int, int]:
    """(bytes whatever the batch, bytes for each sequence of the batch) of a workload."""
    one = footprint(model, work.with_batch(1)).total
    two = footprint(model, work.with_batch(2)).total
    return 2 * one - two, two - one
