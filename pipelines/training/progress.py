"""What the user of a run sees: one line of progress, the log, curves, TensorBoard, a summary."""

import os
import resource
import sys

import ml_collections
import tensorflow as tf
from tqdm import tqdm

from pipelines.runs.metrics_log import MetricsLog
from pipelines.training.state import State
from pipelines.training.task import Data


class Progress:
    """Shows and logs the progress of a run; in processes that do not write, it does nothing.

    A context manager that opens and closes the display.

    Args:
        workdir: folder of the run.
        data: `Data`.
        config: `config.train`.
        step: the step that the run begins or resumes at.
        is_chief: bool.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        data: Data,
        config: ml_collections.ConfigDict,
        step: int,
        is_chief: bool,
    ):
        self.data, self.config, self.step, self.is_chief = data, config, step, is_chief
        self.rate = f"{data.items}_per_second"
        if is_chief:
            self.log = MetricsLog(workdir, step)
            self.scalars = tf.summary.create_file_writer(str(workdir))

    def __enter__(self):
        self.bar = tqdm(
            total=self.config.steps,
            initial=self.step,
            unit="step",
            disable=not (self.is_chief and sys.stderr.isatty()),
            dynamic_ncols=True,
        )
        return self

    def __exit__(self, *error):
        self.bar.close()

    def update(self, steps: int) -> None:
        """Moves the bar on."""
        self.bar.update(steps)

    def report(self, state: State, record: dict[str, float]) -> None:
        """Logs and shows the numbers of one step."""
        if not self.is_chief:
            return
        step = state.step
        self.log.append({"step": step, "seconds": round(state.seconds, 2), **record})
        with self.scalars.as_default(step=step):
            for name, value in record.items():
                tf.summary.scalar(name, value)
        self.scalars.flush()
        is_validation = any(name.startswith("validation") for name in record)
        if is_validation:
            self.log.draw(state.best_step)
        shown = {name: f"{value:.4g}" for name, value in record.items() if name != "gradient_norm"}
        shown["memory"] = f"{peak_memory() / 2**30:.2f}GiB"
        postfix = {name: shown[name] for name in ("loss", self.rate, "memory")}
        self.bar.set_postfix(postfix, refresh=False)
        epoch = state.batch / self.data.batches_per_epoch
        line = f"step {step}/{self.config.steps} epoch {epoch:.2f} "
        line += " ".join(f"{name}={value}" for name, value in shown.items())
        if self.bar.disable:
            left = (self.config.steps - step) * state.seconds / max(step, 1)
            minutes, seconds = divmod(round(left), 60)
            print(f"{line} ETA {minutes}:{seconds:02d}", flush=True)
        elif is_validation:
            self.bar.write(line)

    def summary(self, state: State) -> dict[str, float | None]:
        """Summarises the run: prints a sentence and returns the numbers."""
        total = max(state.seconds, 1e-9)
        metric = f"validation_{state.metric}"
        shares = {name: round(seconds / total, 4) for name, seconds in state.clock.items()}
        shares["compute"] = round(max(1 - sum(shares.values()), 0.0), 4)
        rate = round(state.items / total, 1)
        if self.is_chief:
            spent = ", ".join(f"{share:.1%} {name}" for name, share in shares.items())
            print(
                f"{state.step} steps in {state.seconds:.0f} s, {rate:.4g} {self.data.items} a "
                f"second; best {metric} {state.best_value} at step {state.best_step}; "
                f"time: {spent}.",
                file=sys.stderr,
            )
        return {
            "steps": state.step,
            "seconds": round(state.seconds, 1),
            "best_step": state.best_step,
            metric: state.best_value,
            self.rate: rate,
            **{f"share_{name}": share for name, share in shares.items()},
        }


def peak_memory() -> int:
    """Returns the most bytes that were in use at once: of the first GPU, or of this process."""
    if tf.config.list_logical_devices("GPU"):
        return tf.config.experimental.get_memory_info("GPU:0")["peak"]
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
