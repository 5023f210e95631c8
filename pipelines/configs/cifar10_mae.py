"""A masked autoencoder learns from the images of CIFAR-10 without their labels, on two CPU cores.

The encoder has four layers of 192 units over patches of 4 x 4 pixels, of which it sees a quarter.
The decoder has one layer of 128 units.
The data set lies prepared in `$KERASFORMER_DATA/tfds`, or where `--config.data.data_dir=DIR` says.

Command: `python -m apps.train --config=cifar10_mae --workdir=runs/cifar10_mae`

Then: `cifar10_mae_finetune`, from its weights. `docs/self_supervision.md` has what came of it.
"""

from pipelines.tasks import masked_images


def get_config():
    config = masked_images.default_config()
    config.data.format = "tfds"
    config.data.name = "cifar10"
    config.data.data_dir = "$KERASFORMER_DATA/tfds"
    config.data.download = False
    config.data.train, config.data.validation = "train[:95%]", "train[95%:]"
    config.data.test = "test"
    config.model.variant = "ViT-Lite-6/4"
    config.model.num_layers = 4
    config.model.hidden_dim = 192
    config.model.num_heads = 3
    config.model.intermediate_dim = 384
    config.augment.min_area = 1.0
    config.augment.padding = 4
    config.model.pool = "mean"  # Of the patches, which is what fine-tuning reads.
    config.model.num_prefix_tokens = 1  # The class token, which takes part.
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
