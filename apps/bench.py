"""Measures the speed of this project: `python -m apps.bench --peers=keras-hub,timm`.

Prints one JSON object a line: {"work": ..., "peer": ..., "value": ..., "unit": ...}. With
`--peers` others do the same work in turn, call by call, and lines with the ratios follow: how
many times as fast this project is. Figures mean something only on an otherwise idle machine.

Some works are done only when they are named. `--work=mixers` measures time and memory of one
layer of each kind of attention against the length of the sequence. `--work=scaling` trains with
one local process and with two, and predicts how training scales over many GPUs. `--work=serving
--export=runs/demo/export/1` puts load on a server of an exported model, or without one of a
ViT-Ti/16 that was not trained; it needs wrk (`apt-get install wrk`). `--work=zoo` trains
families of image models on CIFAR-10 for the same time and scores them. `--work=neighbours
--export=runs/cifar10_dino/export/1` scores its test images by their nearest neighbours, those of
their pixels and those of what exported models make of them.
"""

import json
import os
import sys

from absl import flags

from apps import program
from pipelines.benchmarks import (
    mixers,
    neighbours,
    scaling,
    scaling_prediction,
    serving,
    translation,
    turns,
    vision,
    zoo,
)
from pipelines.configs import cifar10_dino, cifar10_zoo
from pipelines.distribution import local_workers

MIXERS, NEIGHBOURS, SCALING, SERVING, ZOO = "mixers", "neighbours", "scaling", "serving", "zoo"
WORKS = translation.WORKS | vision.WORKS
WORK = flags.DEFINE_list(
    "work",
    list(WORKS),
    f"What to measure, in order; {MIXERS}, {NEIGHBOURS}, {SCALING}, {SERVING} and {ZOO} too.",
)
LENGTHS = flags.DEFINE_list(
    "lengths", [str(x) for x in mixers.LENGTHS], f"Tokens of a sequence, for --work={MIXERS}."
)
EXPORTS = flags.DEFINE_list(
    "export",
    [],
    f"Folders of the SavedModels for --work={SERVING}, where unset means ViT-Ti/16, and "
    f"--work={NEIGHBOURS}.",
)
SENTENCES = flags.DEFINE_string(
    "sentences", None, f"Text file for --work={SERVING}; unset: the embedded corpus."
)
REPLICAS = flags.DEFINE_list(
    "replicas", [], f"Numbers of Ray replicas, for --work={SERVING} with them too, such as 1,2."
)
FAMILIES = flags.DEFINE_list(
    "families", list(cifar10_zoo.FAMILIES), f"Families of models, for --work={ZOO}."
)
MINUTES = flags.DEFINE_float(
    "minutes", 30.0, f"Time of a training, for --work={ZOO}.", lower_bound=0.01
)
PERCENTS = flags.DEFINE_list(
    "percents", ["100"], f"Percentages of the training images, for --work={ZOO}, such as 1,10,100."
)
WORKDIR = flags.DEFINE_string("workdir", "runs/zoo", f"Folder of the runs of --work={ZOO}.")
JIT_COMPILE = flags.DEFINE_bool("jit_compile", False, "Whether XLA compiles the work.")
PRECISION = flags.DEFINE_enum(
    "precision", "float32", ["float32", "mixed_bfloat16"], "Dtype policy of the models."
)
PEERS = flags.DEFINE_list(
    "peers",
    [],
    "Libraries that do the same work in turn: keras-hub and, if installed, timm (vision only).",
)


def main(argv):
    if local_workers.VARIABLE in os.environ:  # This is one of the processes that `scaling` starts.
        scaling.run_worker(**json.loads(argv[1]))
        return
    names = [name for name in WORK.value if name not in ON_REQUEST]
    works = dict(zip(names, turns.choose_sides(WORKS, names, PEERS.value), strict=True))
    for name in WORK.value:
        title = works[name].title if name in works else name
        print(f"Measuring: {title} ...", file=sys.stderr, flush=True)
        if name in works:
            records = turns.measure(works[name], JIT_COMPILE.value, PRECISION.value)
        else:
            records = ON_REQUEST[name]()
        for record in records:
            print(json.dumps(record), flush=True)


def measure_mixers():
    if not all(number.isdecimal() for number in LENGTHS.value):
        raise ValueError(f"Expected whole numbers, received --lengths={','.join(LENGTHS.value)}.")
    yield from mixers.measured([int(number) for number in LENGTHS.value])


def measure_neighbours():
    yield from neighbours.measured(cifar10_dino.get_config().data, EXPORTS.value)


def measure_scaling():
    yield from scaling.measured([sys.executable, "-m", "apps.bench"])
    yield from scaling_prediction.predicted()


def measure_serving():
    if not all(number.isdecimal() for number in REPLICAS.value):
        raise ValueError(f"Expected whole numbers, received --replicas={REPLICAS.value}.")
    command = [sys.executable, "-m", "apps.serve"]
    yield from serving.measured_all(command, EXPORTS.value, SENTENCES.value, REPLICAS.value)


def measure_zoo():
    if not all(x.isdecimal() and 1 <= int(x) <= 100 for x in PERCENTS.value):
        raise ValueError(
            f"Expected whole numbers from 1 to 100, received --percents={PERCENTS.value}."
        )
    percents = [int(x) for x in PERCENTS.value]
    yield from zoo.measured(FAMILIES.value, MINUTES.value, percents, WORKDIR.value)


# Left out unless named.
ON_REQUEST = {
    MIXERS: measure_mixers,
    NEIGHBOURS: measure_neighbours,
    SCALING: measure_scaling,
    SERVING: measure_serving,
    ZOO: measure_zoo,
}


if __name__ == "__main__":
    program.run(main)
