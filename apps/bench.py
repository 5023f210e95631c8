"""Measures the speed of this project: `python -m apps.bench --peers=keras-hub,timm`.

Prints one JSON object a line: {"work": ..., "peer": ..., "value": ..., "unit": ...}. With
`--peers` others do the same work in turn, call by call, and lines with the ratios follow: how
many times as fast this project is. Figures are worth something on an otherwise idle machine alone.
"""

import json
import sys

from absl import flags

from apps import program
from pipelines import benchmark, translation_benchmark, vision_benchmark

WORKS = translation_benchmark.WORKS | vision_benchmark.WORKS
WORK = flags.DEFINE_list("work", list(WORKS), "Names of what to measure, in order.")
JIT_COMPILE = flags.DEFINE_bool("jit_compile", False, "Whether XLA compiles the work.")
PRECISION = flags.DEFINE_enum(
    "precision", "float32", ["float32", "mixed_bfloat16"], "Dtype policy of the models."
)
PEERS = flags.DEFINE_list(
    "peers", [], "Who does the same work in turn: keras-hub and, if installed, timm (vision only)."
)


def main(_):
    """Prints a record for each piece of work and side."""
    for work in benchmark.choose_sides(WORKS, WORK.value, PEERS.value):
        print(f"Measuring: {work.title} ...", file=sys.stderr, flush=True)
        for record in benchmark.measure(work, JIT_COMPILE.value, PRECISION.value):
            print(json.dumps(record), flush=True)


if __name__ == "__main__":
    program.run(main)
