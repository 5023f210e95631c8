"""Measures the speed of this project: `python -m apps.bench --peers=keras-hub,timm`.

Prints one JSON object a line: {"work": ..., "peer": ..., "value": ..., "unit": ...}. With
`--peers` others do the same work in turn, call by call, and lines with the ratios follow: how
many times as fast this project is. Figures are worth something on an otherwise idle machine alone.

`--work=scaling`, which is not done unless named, trains with one local process and with two, and
predicts how training scales over many GPUs.
"""

import json
import os
import sys

from absl import flags

from apps import program
from pipelines import (
    benchmark,
    local_workers,
    scaling_benchmark,
    scaling_prediction,
    translation_benchmark,
    vision_benchmark,
)

SCALING = "scaling"
WORKS = translation_benchmark.WORKS | vision_benchmark.WORKS
WORK = flags.DEFINE_list("work", list(WORKS), f"What to measure, in order; {SCALING} too.")
JIT_COMPILE = flags.DEFINE_bool("jit_compile", False, "Whether XLA compiles the work.")
PRECISION = flags.DEFINE_enum(
    "precision", "float32", ["float32", "mixed_bfloat16"], "Dtype policy of the models."
)
PEERS = flags.DEFINE_list(
    "peers", [], "Who does the same work in turn: keras-hub and, if installed, timm (vision only)."
)


def main(argv):
    if local_workers.VARIABLE in os.environ:  # This is one of the processes that `scaling` starts.
        scaling_benchmark.run_worker(**json.loads(argv[1]))
        return
    names = [name for name in WORK.value if name != SCALING]
    works = dict(zip(names, benchmark.choose_sides(WORKS, names, PEERS.value), strict=True))
    for name in WORK.value:
        title = works[name].title if name in works else name
        print(f"Measuring: {title} ...", file=sys.stderr, flush=True)
        for record in measure(works[name]) if name in works else scaling():
            print(json.dumps(record), flush=True)


def measure(work):
    return benchmark.measure(work, JIT_COMPILE.value, PRECISION.value)


def scaling():
    yield from scaling_benchmark.measured([sys.executable, "-m", "apps.bench"])
    yield from scaling_prediction.predicted()


if __name__ == "__main__":
    program.run(main)
