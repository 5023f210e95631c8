"""A linear classifier of CIFAR-10 on the features of the encoder that `cifar10_dino` trained.

The encoder stays as it is, in the folder `runs/cifar10_dino`, or `--config.start.workdir=DIR`.

Command: `python -m apps.train --config=cifar10_dino_probe --workdir=runs/cifar10_dino_probe`
"""

from pipelines.configs import cifar10_dino
from pipelines.tasks import classification


def get_config():
    first = cifar10_dino.get_config()
    config = classification.default_config()
    for part in ("data", "model"):
        config[part].update(first[part])
    config.model.stochastic_depth = 0.0
    config.start.workdir = "runs/cifar10_dino"
    config.start.freeze = True
    config.augment.padding = 4
    config.augment.flip = 0.5
    config.train.precision = "auto"
    config.train.epochs = 10
    config.train.batch_size = 256
    config.train.learning_rate = 0.003
    config.train.warmup_steps = "5%"
    config.train.weight_decay = 0.0
    config.train.label_smoothing = 0.0
    config.train.validate_every = "20%"
    config.train.checkpoint_every = "20%"
    config.train.keep_checkpoints = 1
    return config
