"""Time and memory of mixers against the length of the sequence, forward and backward.

One layer at a time, of 128 numbers a token and two heads, on one sequence in float32.
"""

import functools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from kerasformer.layers import LinearAttention, LocalAttention, MultiHeadAttention, SparseAttention
from kerasformer.layers.mixers.dot_product import fused_attention

HIDDEN_DIM, NUM_HEADS = 128, 2
BLOCK = 128  # of local and sparse attention: the root of the longest length
LENGTHS = (256, 512, 1024, 2048, 4096, 8192, 16_384)
LONGEST = 4  # lengths that an exponent is fitted to: short ones measure what surrounds the work
ROUNDS, BUDGET = 7, 20.0  # calls of a length, or fewer where they would take more seconds


class FusedAttention(MultiHeadAttention):
    """Attends by the kernel of the backend, also where `attend` finds another way faster."""

    def _attend(self, query, key, value, mask=None, is_causal=False, **others):
        return fused_attention(query, key, value, mask, is_causal), None


LOCAL = functools.partial(LocalAttention, block_size=BLOCK)
SPARSE = functools.partial(SparseAttention, block_size=BLOCK, heads="split")
CAUSAL = {"use_causal_mask": True}
# A name, the layer, and the keywords that it is called with.
MIXERS: dict[str, tuple[Callable, Mapping]] = {
    "dense": (MultiHeadAttention, {}),
    "dense causal": (MultiHeadAttention, CAUSAL),
    "fused": (FusedAttention, {}),
    "local": (LOCAL, {}),
    "local causal": (LOCAL, CAUSAL),
    "sparse causal": (SPARSE, CAUSAL),
    "linear": (LinearAttention, {}),
    "linear causal": (LinearAttention, CAUSAL),
}


def in_fresh_process(name: str, length: int) -> tuple[float, float]:
    """Does `measure` in a process of its own, which holds no memory of earlier work."""
    command = [sys.executable, "-m", "pipelines.benchmarks.mixers", name, str(length)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2]
        raise ChildProcessError(f"The mixer {name!r} at {length} tokens ended: {reason}")
    second, mebibyte = json.loads(done.stdout)
    return second, mebibyte


def measured(
    lengths: Sequence[int] = LENGTHS, measure: Callable = in_fresh_process
) -> Iterator[dict]:
    """Measures each mixer at each length.

    Args:
        lengths: ints, ascending.
        measure: `in_fresh_process`, or the function `measure`, which starts none.

    Yields:
        Records with `work`, `peer` (the mixer), `value` and `unit`: milliseconds and mebibytes of
        each length; then exponents of both, and the first length from which on a mixer is faster
        than `"dense"` at all lengths, or 0.

    Raises:
        ValueError: for fewer than two lengths, or for lengths that do not ascend.
    """
    if len(lengths) < 2 or list(lengths) != sorted(set(lengths)) or lengths[0] < 1:
        raise ValueError(f"Expected two or more ascending lengths, received lengths={lengths}.")
    seconds: dict[str, list[float]] = {}
    for name in MIXERS:
        seconds[name], mebibytes = [], []
        for length in lengths:
            second, mebibyte = measure(name, length)
            seconds[name].append(second)
            mebibytes.append(mebibyte)
            work = f"mixer {length} tokens"
            yield _record(work, name, 1000 * second, "ms")
            yield _record(work, name, mebibyte, "MiB")
        yield _record("mixer time", name, exponent(lengths, seconds[name]), "exponent")
        yield _record("mixer memory", name, exponent(lengths, mebibytes), "exponent")
    for name in list(seconds)[1:]:
        first = first_faster(lengths, seconds[name], seconds["dense"])
        yield _record("mixer faster than dense", name, first, "tokens")


def _record(work, peer, value, unit):
    return {"work": work, "peer": peer, "value": round(value, 2), "unit": unit}


def measure(name: str, length: int) -> tuple[float, float]:
    """Measures a mixer forward and backward.

    Returns:
        Tuple of the median seconds of a call, and of the mebibytes that the process held at most
        since a call with few tokens.
    """
    mixer, keywords = MIXERS[name]
    layer = mixer(HIDDEN_DIM, NUM_HEADS)

    @tf.function(autograph=False)
    def step(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_sum(tf.square(layer(inputs, training=True, **keywords)))
        gradients = tape.gradient(loss, [inputs, *layer.trainable_variables])
        return tf.add_n([tf.reduce_sum(gradient) for gradient in gradients])

    def call(length):
        inputs = np.random.default_rng(0).standard_normal((1, length, HIDDEN_DIM))
        step(tf.constant(inputs, tf.float32)).numpy()

    call(8)
    before = _reset_peak()
    call(length)
    times: list[float] = []
    while not times or (len(times) < ROUNDS and sum(times) < BUDGET):
        start = time.perf_counter()
        call(length)
        times.append(time.perf_counter() - start)
    return statistics.median(times), max(_status("VmHWM") - before, 0.1)


def _reset_peak():
    """Makes Linux forget the largest memory of this process so far; returns that of now."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _status("VmRSS")


def _status(name):
    """Reads mebibytes out of the status of this process."""
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024


def exponent(lengths: Sequence[int], values: Sequence[float]) -> float:
    """Fits `value ~ length ** exponent` to the longest lengths."""
    x, y = (np.log(numbers[-LONGEST:]) for numbers in (lengths, values))
    return float(np.polyfit(x, y, 1)[0])


def first_faster(lengths: Sequence[int], seconds: Sequence[float], others: Sequence[float]) -> int:
    """Finds the first length from which on all are faster than others, or 0."""
    first = 0
    for length, mine, theirs in zip(lengths, seconds, others, strict=True):
        first = (first or length) if mine < theirs else 0
    return first


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
