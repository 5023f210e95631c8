"""A masked autoencoder learns from the images of CIFAR-10 without their labels, on two CPU cores.

The encoder is that of `cifar10_dino`: four layers of 192 units over patches of 4 x 4 pixels, of
which it sees a quarter. The decoder has one layer of 128 units.
The data set lies prepared in `$KERASFORMER_DATA/tfds`, or where `--config.data.data_dir=DIR` says.

Command: `python -m apps.train --config=cifar10_mae --workdir=runs/cifar10_mae`

Then: `cifar10_mae_finetune`, from its weights. `docs/self_supervision.md` has what came of it.
"""

from pipelines.configs import cifar10_dino
from pipelines.tasks import masked_images


def get_config():
    config, twin = masked_images.default_config(), cifar10_dino.get_config()
    config.data.update(twin.data)
    config.data.labels = "none"
    config.model.update(twin.model)
    config.augment.min_area = 1.0
    config.augment.padding = 4
    config.model.pool = "mean"  # Of the patches, which is what fine-tuning reads.
    config.model.num_prefix_tokens = 1  # The class token, which takes part.
    config.model.stochastic_depth = 0.0
    config.decoder.num_layers = 1
    config.train.precision = "auto"  # bfloat16 where the processor multiplies it
    config.train.epochs = 20
    config.train.batch_size = 256
    config.train.learning_rate = 2e-3
    config.train.warmup_steps = "5%"
    config.train.steps_per_call = 50
    config.train.log_every = 100
    config.train.validate_every = 500
    config.train.checkpoint_every = 500
    config.train.keep_checkpoints = 2
    return config
