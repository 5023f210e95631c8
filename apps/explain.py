"""Looks inside of the model of a run: `python -m apps.explain --workdir=runs/demo picture.jpg`.

Pictures are files, folders or patterns such as "photos/*.jpg"; without any, images of the run's
validation split are looked at. What is drawn goes to `--output`, and a line on standard output says
what each picture shows:

attention  attention-1.png, ...: the rollout, and each head of each block
saliency   saliency-1.png, ...: the size of the gradient of a class, plain and smoothed
distance   distance.png: how far each head looks, on average over the images; with a table
units      units.png: the parts of the images that units of a layer answer to most; with a table

A model without attention has saliency and units alone. `--show=layers` prints the layers that
`--layer` takes, and draws nothing.
"""

import os

from absl import flags

from apps import program, tasks
from pipelines.exported.answers import Faults
from pipelines.exported.pixels import expand
from pipelines.images import explanation
from pipelines.runs import checkpoints

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
WEIGHTS = flags.DEFINE_enum(
    "weights", None, checkpoints.WEIGHTS, "Which weights; unset: as the config says."
)
OUTPUT = flags.DEFINE_string(
    "output", None, "Folder for the pictures and tables; unset: explain in the folder of the run."
)
SHOW = flags.DEFINE_list(
    "show", [], f"What to show, of {', '.join(explanation.KINDS)}; unset: all that can be drawn."
)
SPLIT = flags.DEFINE_enum(
    "split", "validation", ["test", "validation"], "The images that are looked at without files."
)
IMAGES = flags.DEFINE_integer(
    "images", 1000, "How many of the split, evenly spaced in its order.", lower_bound=1
)
TARGET = flags.DEFINE_string(
    "target",
    "",
    "What saliency is of: a class by its name; norm, the norm of the features; or units, those of "
    "--layer; unset: the most probable class, and of a model without classes the norm.",
)
LAYER = flags.DEFINE_string(
    "layer", "", "Path of the layer whose units are shown; unset: the last one on a grid."
)
UNITS = flags.DEFINE_list(
    "units",
    None,
    "Numbers of these units (channels, neurons, heads), from 0; unset: the first 8.",
)


def main(argv):
    try:
        units = None if UNITS.value is None else [int(number) for number in UNITS.value]
    except ValueError:
        given = ",".join(UNITS.value)
        raise ValueError(f"Expected --units to be numbers, received --units={given}.") from None
    request = explanation.Request(
        SHOW.value, SPLIT.value, IMAGES.value, TARGET.value, LAYER.value, units
    )
    faults = Faults()
    files = list(expand(argv[1:], faults)) if argv[1:] else None
    output = OUTPUT.value or os.path.join(WORKDIR.value, "explain")
    run = WORKDIR.value, WEIGHTS.value
    explanation.explain_run(tasks.find, *run, request, output, files, faults.add)
    return faults.exit_code


if __name__ == "__main__":
    program.run(main)
