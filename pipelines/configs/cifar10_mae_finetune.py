"""The encoder of `cifar10_mae` learns the classes of CIFAR-10, from all labels or a few.

Layer decay, stochastic depth, mixup, CutMix, RandAugment and smoothing are those of He et al.,
2021, for a network of half as many layers. The first run must be there: `cifar10_mae` in
`runs/cifar10_mae`, or where `--config.start.workdir=DIR` says.

Command: `python -m apps.train --config=cifar10_mae_finetune --workdir=runs/cifar10_mae_100`

With 10 % of the labels: `--config.data.train="train[:10%]" --config.train.epochs=100`; with 1 %:
`--config.data.train="train[:1%]" --config.train.epochs=400`. `docs/self_supervision.md` has what
came of each, of a linear probe, and of its twin from scratch, `cifar10_mae_scratch`.
"""

from pipelines.configs import cifar10_mae
from pipelines.tasks import classification


def get_config():
    config, first = classification.default_config(), cifar10_mae.get_config()
    config.data.update({k: v for k, v in first.data.items() if k != "labels"})
    config.model.update(first.model)
    config.model.stochastic_depth = 0.1
    config.start.workdir = "runs/cifar10_mae"
    config.augment.padding = 4
    config.augment.flip = 0.5
    config.augment.layers = 2
    config.augment.mixup = 0.8
    config.augment.cutmix = 1.0
    config.train.precision = "auto"
    config.train.epochs = 20
    config.train.batch_size = 128
    config.train.learning_rate = 1e-3
    config.train.layer_decay = 0.75
    config.train.warmup_steps = "5%"
    config.train.beta_2 = 0.999
    config.train.weight_decay = 0.05
    config.train.ema = 0.99
    config.train.steps_per_call = 50
    config.train.log_every = 100
    config.train.validate_every = "10%"
    config.train.checkpoint_every = "10%"
    config.train.keep_checkpoints = 2
    return config
