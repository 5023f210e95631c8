"""A small DeiT on CIFAR-10: a second token learns what the model of `cifar10_cpu` answers.

The paper's distillation (Touvron et al., 2020, section 4, hard kind) from a convolutional teacher,
on a student of 4 layers and 128 units, for a few minutes on two CPU cores. The teacher's run must
be there: `cifar10_cpu` in `runs/cifar10`, or where `--config.teacher.model=DIR` says.

Command: `python -m apps.train --config=cifar10_deit --workdir=runs/deit`

Result: 49.4 % of the test images after three epochs, 311 seconds on two busy cores; 48.5 % without
the teacher. It is here to show how, not to be used.
"""

from pipelines.configs import cifar10_cpu


def get_config():
    config = cifar10_cpu.get_config()
    config.teacher.model = "runs/cifar10"
    config.model.variant = "DeiT-Ti/16"
    config.model.patch_size = 4
    config.model.num_layers = 4
    config.model.hidden_dim = 128
    config.model.num_heads = 2
    config.model.intermediate_dim = 256
    config.train.steps = 1113  # 3 epochs
    config.train.learning_rate = 0.001
    config.train.warmup_steps = 111
    config.train.validate_every = 371
    config.train.checkpoint_every = 371
    config.train.ema = 0.995
    return config
