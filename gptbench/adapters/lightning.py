"""MFUMeter as a callback of Lightning, of `lightning` or of `pytorch_lightning`.

meter = MFUMeter("gpt2-small", device="NVIDIA A100-SXM4-80GB", dtype="bfloat16", seq_len=1024)
Trainer(callbacks=[MFUCallback(meter)], ...)
"""

from collections.abc import Callable
from typing import Any

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ModuleNotFoundError:
    from pytorch_lightning import Callback, LightningModule, Trainer

from gptbench.adapters.batches import tokens_of
from gptbench.adapters.devices import drain, require_for
from gptbench.adapters.scalars import scalars, warned
from gptbench.meter import MFUMeter


class MFUCallback(Callback):
    """Meters a training by Lightning, and logs tokens_per_s, step_time_s, mfu and hfu.

    `tokens` says how many tokens a batch of one process holds; each other process that has batches
    of its own is taken to read as many. The numbers go to the trainer's loggers, every
    `log_every_n_steps` updates.

    Validations are pauses, and so is a checkpoint with the state of the training, until the next
    batch is there; Lightning announces no checkpoint of the weights alone (`save_weights_only`).
    """

    def __init__(self, meter: MFUMeter, tokens: Callable[[Any], int] = tokens_of) -> None:
        self.meter = meter
        self._tokens = tokens
        self._updates = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raises QuestionError where the meter is for another number of devices."""
        require_for(self.meter, trainer.world_size)
        self._updates = trainer.global_step
        self.meter.reset()

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """The next batch is there."""
        self.meter.resume()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Count the batch; an update ends the step that it belongs to."""
        self.meter.count(self._tokens(batch) * _readers(trainer))
        if trainer.global_step != self._updates:
            self._updates = trainer.global_step
            self.meter.step()
            self._log(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What follows is no training."""
        self._pause(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A checkpoint may follow yet, and pauses again."""
        self.meter.resume()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """A checkpoint is about to be written."""
        self._pause(pl_module)

    def _pause(self, pl_module: LightningModule) -> None:
        drain(pl_module.device)
        self.meter.pause()

    def _log(self, trainer: Trainer) -> None:
        every = trainer.log_every_n_steps
        if trainer.is_global_zero and every and self._updates % every == 0:
            found = scalars(warned(self.meter.compute()))
            for logger in trainer.loggers if found else ():
                logger.log_metrics(found, step=self._updates)


def _readers(trainer: Trainer) -> int:
    """Processes that have batches of their own; those of tensor parallelism share them."""
    sampler = trainer.distributed_sampler_kwargs
    return 1 if sampler is None else int(sampler["num_replicas"])
