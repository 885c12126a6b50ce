"""MFUMeter as a callback of Hugging Face's Trainer.

meter = MFUMeter(model.config, device="NVIDIA A100-SXM4-80GB", dtype="bfloat16", seq_len=1024)
Trainer(model, args, callbacks=[MFUCallback(meter)], ...)
"""

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gptbench.adapters.devices import drain, require_for
from gptbench.adapters.scalars import scalars, warned
from gptbench.errors import QuestionError
from gptbench.meter import MFUMeter

TokensOfStep = Callable[[TrainingArguments, TrainerState], int]


class MFUCallback(TrainerCallback):
    """Meters a training by Trainer, and adds tokens_per_s, step_time_s, mfu and hfu to its log.

    A callback of Trainer sees no batches. `tokens_per_step` says how many tokens all devices read
    in one update: a number, or a function of the arguments and the state. Without it Trainer's own
    count is used, which `include_num_input_tokens_seen="all"` switches on; it waits for the device
    at every batch. The numbers are in `state.log_history`, and reach callbacks that stand behind
    this one: to report them to TensorBoard, type `report_to="none"` and
    `callbacks=[MFUCallback(meter), TensorBoardCallback()]`.

    Evaluations and checkpoints are pauses, until the next step's batches are there.
    """

    def __init__(self, meter: MFUMeter, tokens_per_step: int | TokensOfStep | None = None) -> None:
        self.meter = meter
        self._tokens_per_step = tokens_per_step
        self._seen = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Raises QuestionError where tokens cannot be counted, or for another number of devices."""
        require_for(self.meter, args.world_size * max(1, args.n_gpu))
        if self._tokens_per_step is None and args.include_num_input_tokens_seen == "no":
            raise QuestionError(
                "a callback of Trainer sees no batches. Give MFUCallback(meter, "
                "tokens_per_step=...), the tokens of one update on all devices, or "
                'TrainingArguments(include_num_input_tokens_seen="all").'
            )
        self._seen = state.num_input_tokens_seen
        self.meter.reset()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """The next step's batches are there."""
        self.meter.resume()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """An update is done; an evaluation or a checkpoint may follow."""
        self.meter.step(self._tokens(args, state))
        self._pause_before_others(args, control)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """An evaluation or a checkpoint may follow."""
        self._pause_before_others(args, control)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Add the numbers to a training's log entry, which has a loss."""
        if logs is not None and "loss" in logs and state.is_world_process_zero:
            found = scalars(warned(self.meter.compute()))
            logs.update(found)
            state.log_history[-1].update(found)

    def _tokens(self, args: TrainingArguments, state: TrainerState) -> int:
        """Tokens of the update that ends now, on all devices."""
        if callable(self._tokens_per_step):
            return self._tokens_per_step(args, state)
        if self._tokens_per_step is not None:
            return self._tokens_per_step
        seen, self._seen = self._seen, state.num_input_tokens_seen
        return self._seen - seen

    def _pause_before_others(self, args: TrainingArguments, control: TrainerControl) -> None:
        if control.should_evaluate or control.should_save:
            drain(args.device)
            self.meter.pause()
