"""Speed of a piece of work, done by this project and by others in turn.

One call of one side is timed in turn with one call of each other side. The speed of a machine
changes from minute to minute, so a ratio from one run holds where two figures from two runs do not.
"""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

REST = 0.3  # Seconds, after which the threads of the side before no longer spin.
PEERS = ("keras-hub", "timm")  # The names of sides that are not this project.


class Side(NamedTuple):
    """A library that does a piece of work.

    Attributes:
        name: str. Its name, such as `"keras-hub"`.
        items: int. Tokens or images that one call processes.
        make: function of `jit_compile` (bool) and `precision` (a dtype policy) that returns the
            call; a call ends when its result is there.
        compiled: bool or `None`. Whether XLA compiles this side, regardless of `jit_compile`;
            `None` follows `jit_compile`.
    """

    name: str
    items: int
    make: Callable[[bool, str], Callable]
    compiled: bool | None = None

    def label(self, jit_compile: bool, precision: str) -> str:
        """Returns the name of the side, with XLA and the precision unless they are the default."""
        is_compiled = jit_compile if self.compiled is None else self.compiled
        unusual = ["xla"] * bool(is_compiled) + [precision] * (precision != "float32")
        return " ".join([self.name, *unusual])


class Work(NamedTuple):
    """A piece of work.

    Attributes:
        title: str. What the work is called in a record.
        unit: str. What `Side.items` are, such as `"img"`.
        sides: sequence of `Side`, that of this project first.
        warm_up: int. Calls of each side that are not counted.
        rounds: int. Calls that are counted.
    """

    title: str
    unit: str
    sides: Sequence[Side]
    warm_up: int = 2
    rounds: int = 9


def choose_sides(works: dict[str, Work], names: Sequence[str], peers: Sequence[str]) -> list[Work]:
    """Looks up pieces of work, each without the peers that were not asked for.

    Raises:
        ValueError: for a name that is not in `works`, or not in `PEERS`.
    """
    for flag, values, choices in (("work", names, list(works)), ("peers", peers, PEERS)):
        for name in values:
            if name not in choices:
                raise ValueError(
                    f"Expected {flag} to be among {choices}, received {flag}={name!r}."
                )
    return [
        work._replace(sides=[s for s in work.sides if s.name not in PEERS or s.name in peers])
        for work in (works[name] for name in names)
    ]


def measure(work: Work, jit_compile: bool = False, precision: str = "float32") -> list[dict]:
    """Times a piece of work: medians, after calls that are not counted.

    Args:
        work: `Work`.
        jit_compile: whether XLA compiles the work.
        precision: `"float32"` or `"mixed_bfloat16"`.

    Returns:
        Records with `work`, `peer`, `value` and `unit`: items a second of each side, and how many
        times as fast the first side is as each other.
    """
    calls = [side.make(jit_compile, precision) for side in work.sides]
    seconds = time_in_turn(calls, work.warm_up, work.rounds)
    calls.clear()
    gc.collect()  # Models have reference cycles, and the next work needs the memory.
    labels = [side.label(jit_compile, precision) for side in work.sides]
    rates = [side.items / median for side, median in zip(work.sides, seconds, strict=True)]
    unit = f"{work.unit}/s"
    records = [(label, _rounded(rate), unit) for label, rate in zip(labels, rates, strict=True)]
    for label, rate in zip(labels[1:], rates[1:], strict=True):
        ratio = round(rates[0] / rate, 2)
        records.append((f"{labels[0]} / {label}", ratio, "times as fast"))
    return [
        {"work": work.title, "peer": peer, "value": value, "unit": unit}
        for peer, value, unit in records
    ]


def _rounded(rate):
    return round(rate) if rate >= 1000 else round(rate, 1)


def time_in_turn(calls: Sequence[Callable], warm_up: int, rounds: int) -> list[float]:
    """Returns the median seconds of each call, all called once a round, after a rest."""
    for call in calls:
        for _ in range(warm_up):
            call()
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, call_times in zip(calls, times, strict=True):
            time.sleep(REST)
            start = time.perf_counter()
            call()
            call_times.append(time.perf_counter() - start)
    return [statistics.median(call_times) for call_times in times]
