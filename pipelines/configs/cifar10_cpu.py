"""A compact convolutional Transformer on CIFAR-10 for half an hour on two CPU cores.

The data set lies prepared in `$KERASFORMER_DATA/tfds`, or where `--config.data.data_dir=DIR` says.
Of the training images 2,500 are kept apart for validation.

Command: `python -m apps.train --config=cifar10_cpu --workdir=runs/cifar10`

Result: 83.4 % of the test images, 84.6 % of those kept apart, in 29 minutes and 47 seconds on two
cores that had other work too. `docs/vision.md` says what each choice was worth.
"""

from pipelines.tasks import classification


def get_config():
    config = classification.default_config()
    config.data.format = "tfds"
    config.data.name = "cifar10"
    config.data.data_dir = "$KERASFORMER_DATA/tfds"
    config.data.download = False
    config.data.train, config.data.validation = "train[:95%]", "train[95%:]"
    config.data.test = "test"
    config.augment.padding = 4
    config.augment.flip = 0.5
    config.augment.cutmix = 1.0
    config.augment.mix_probability = 0.5
    config.model.variant = "CCT-4/3x3"
    config.model.attention_dropout = 0.0
    config.model.stochastic_depth = 0.0
    config.train.precision = "auto"  # bfloat16 where the processor multiplies it
    config.train.steps = 16_695  # 45 epochs
    config.train.batch_size = 128
    config.train.learning_rate = 0.002
    config.train.warmup_steps = 371
    config.train.weight_decay = 0.05
    config.train.ema = 0.999
    config.train.steps_per_call = 50
    config.train.log_every = 100
    config.train.validate_every = 1113
    config.train.checkpoint_every = 1113
    config.train.keep_checkpoints = 2
    return config
