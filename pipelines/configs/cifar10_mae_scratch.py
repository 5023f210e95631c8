"""The twin of `cifar10_mae_finetune` that begins with random weights, for a comparison.

All layers learn alike. `docs/self_supervision.md` says for how long, which is as long as the other
takes with its pre-training, and what came of it.

Command: `python -m apps.train --config=cifar10_mae_scratch --workdir=runs/cifar10_scratch_100`
"""

from pipelines.configs import cifar10_mae_finetune


def get_config():
    config = cifar10_mae_finetune.get_config()
    config.start.workdir = ""
    config.train.layer_decay = 1.0
    config.train.epochs = 60
    return config
