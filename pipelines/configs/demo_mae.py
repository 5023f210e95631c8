"""A small masked autoencoder on scikit-learn's handwritten digits, 8 x 8 pixels.

Command: `python -m apps.train --config=demo_mae --workdir=runs/digits_mae`
"""

from pipelines.tasks import masked_images


def get_config():
    config = masked_images.default_config()
    config.data.format = "digits"
    config.augment.min_area = 1.0
    config.augment.flip = 0.0
    config.augment.padding = 1
    config.model.image_size = 8
    config.model.patch_size = 2
    config.model.num_layers = 3
    config.model.hidden_dim = 64
    config.model.num_heads = 4
    config.model.intermediate_dim = 128
    config.model.pool = "mean"
    config.model.num_prefix_tokens = 1
    config.decoder.num_layers = 1
    config.decoder.hidden_dim = 32
    config.mask.ratio = 0.5
    config.train.steps = 1200
    config.train.batch_size = 64
    config.train.learning_rate = 0.002
    config.train.warmup_steps = 60
    config.train.validate_every = 200
    config.train.checkpoint_every = 200
    config.train.keep_checkpoints = 3
    return config
