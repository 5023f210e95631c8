"""Measures the speed of this project: `python -m apps.bench --with_keras_hub`.

Prints one JSON object a line: {"work": ..., "peer": ..., "value": ..., "unit": ...}. With
`--with_keras_hub` each piece of work is done by keras-hub in turn, call by call, and a line with
the ratio follows. Figures are worth something on an otherwise idle machine alone.
"""

import json
import sys

from absl import flags

from apps import program
from pipelines import benchmark

WORK = flags.DEFINE_list("work", list(benchmark.WORKS), "Names of what to measure, in order.")
JIT_COMPILE = flags.DEFINE_bool("jit_compile", False, "Whether XLA compiles the work.")
PRECISION = flags.DEFINE_enum(
    "precision", "float32", ["float32", "mixed_bfloat16"], "Dtype policy of the models."
)
WITH_KERAS_HUB = flags.DEFINE_bool(
    "with_keras_hub", False, "Whether keras-hub does the same work in turn."
)


def main(_):
    """Prints a record for each piece of work and side."""
    for work in benchmark.find_works(WORK.value):
        print(f"Measuring: {work.title} ...", file=sys.stderr, flush=True)
        for record in benchmark.measure(
            work, JIT_COMPILE.value, PRECISION.value, WITH_KERAS_HUB.value
        ):
            print(json.dumps(record), flush=True)


if __name__ == "__main__":
    program.run(main)
