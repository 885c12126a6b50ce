"""The learning curve of a training, as inline SVG."""

from matplotlib.ticker import MaxNLocator

from gptbench.report.figures import ACCENT, INK, MUTED, SECOND, figure_of, note, style, svg
from gptbench.trainrecord import TrainRecord


def curve(rec: TrainRecord) -> str:
    """Training and validation loss over the steps, with the loss that was asked for."""
    done = rec.trained
    steps = [min(done.steps, (at + 1) * done.loss_every) for at in range(len(done.train_losses))]
    looks = [(look.step, look.validation_loss) for look in done.evaluations]
    best = min(looks, key=lambda look: look[1])
    with style():
        figure, (axes,) = figure_of(3.2)
        if steps:
            axes.plot(steps, done.train_losses, color=MUTED, lw=0.9, label="training")
        axes.plot(
            *zip(*looks, strict=True), color=ACCENT, lw=1.4, marker="o", ms=3.5, label="validation"
        )
        if rec.target_loss is not None:
            axes.axhline(rec.target_loss, color=SECOND, lw=1.2, ls=(0, (4, 3)), label="asked for")
        note(axes, f"best {best[1]:.4f}", best, (0, 9), ha="right")
        axes.set_title("loss, nats a token", color=INK)
        axes.set_xlabel("step")
        axes.set_xlim(0, max(1, done.steps))
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.legend(loc="upper right", frameon=False)
        text = (
            f"The validation loss went from {looks[0][1]:.4f} to {looks[-1][1]:.4f} in "
            f"{done.steps} steps; the best was {best[1]:.4f} at step {best[0]}."
        )
        return svg(figure, "loss", "Loss over the steps", text)
