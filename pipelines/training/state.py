"""The state of the training loop, which a checkpoint holds as JSON."""

import dataclasses
from collections.abc import Mapping

from pipelines.training.task import Data


@dataclasses.dataclass
class Period:
    """Sums since the last record.

    Attributes:
        loss, items, seconds: sums over the steps.
        norm: norm of the last gradient.
    """

    loss: float = 0.0
    items: float = 0.0
    seconds: float = 0.0
    norm: float = 0.0


@dataclasses.dataclass
class State:
    """What the loop knows beside the variables of the trainer.

    Attributes:
        metric: the metric that the best checkpoint is chosen by.
        data: fingerprint of the data.
        prepared: hash of each prepared file, such as the tokenizer, by its name.
        step: steps taken.
        batch: batches read by these.
        items: items (tokens, images) in these.
        seconds: time that the run has taken.
        period: sums since the last record.
        clock: seconds of `seconds` by what they were spent on, beside computing.
        best_value, best_step: best validation, `None` before the first.
        stale: validations since the best one.
        first_loss: first loss that was logged.
        counts: how many of what the data holds.
    """

    metric: str
    data: Mapping[str, str | int]
    prepared: Mapping[str, str]
    step: int = 0
    batch: int = 0
    items: float = 0.0
    seconds: float = 0.0
    period: Period = dataclasses.field(default_factory=Period)
    clock: dict[str, float] = dataclasses.field(
        default_factory=lambda: {"input": 0.0, "validation": 0.0, "checkpoint": 0.0}
    )
    best_value: float | None = None
    best_step: int = 0
    stale: int = 0
    first_loss: float | None = None
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @classmethod
    def resumed(cls, saved: dict, metric: str, data: Data) -> "State":
        """Reads the state of a checkpoint, to resume, perhaps with another metric or other data."""
        period = Period(**_known(Period, saved.get("period", {})))
        of_data = {"data": data.fingerprint, "prepared": data.prepared, "counts": data.counts}
        state = cls(**{**_known(cls, saved), **of_data, "period": period})
        if state.metric != metric:  # The values of two metrics cannot be compared.
            state.metric, state.best_value, state.best_step, state.stale = metric, None, 0, 0
        return state


def _known(state_class: type, values: dict) -> dict:
    """Leaves out what another version of the class has saved and this one does not know."""
    names = {field.name for field in dataclasses.fields(state_class)}
    return {name: value for name, value in values.items() if name in names}
