"""ViT-S/16 on ImageNet-1k for 90 epochs: the better baseline of Beyer et al., 2022.

Mean pooling, fixed sine-cosine positions, light RandAugment and mixup. The paper: 76.5 % of the
validation images, 6 to 7 hours on a TPU v3-8. There each class has a sigmoid of its own; here they
share a softmax. Their decay of 1e-4 is not multiplied by the learning rate, ours of 0.1 is.

The images lie in one folder per class below `$IMAGENET/train` and `$IMAGENET/val`.

Command: `python -m apps.train --config=imagenet_vit_s16 --workdir=runs/vit_s16 --strategy=mirrored`

Not run: neither the data nor such a machine were at hand. The model's parameter count, the
positions and the reading of folders are tested.
"""

from pipelines.tasks import classification


def get_config():
    config = classification.default_config()
    config.data.format = "folder"
    config.data.folder = "$IMAGENET"
    config.data.train, config.data.validation, config.data.test = "train", "val", "val"
    config.data.examine = False
    config.augment.min_area = 0.05
    config.augment.flip = 0.5
    config.augment.layers = 2
    config.augment.magnitude = 10.0
    config.augment.mixup = 0.2
    config.model.variant = "S/16"
    config.model.image_size = 224
    config.model.pool = "mean"
    config.model.positions = "sinusoidal"
    config.train.precision = "mixed_bfloat16"
    config.train.steps = 112_603  # 90 epochs
    config.train.batch_size = 1024
    config.train.warmup_steps = 10_000
    config.train.weight_decay = 0.1
    config.train.label_smoothing = 0.0
    config.train.log_every = 100
    config.train.validate_every = 2500
    config.train.checkpoint_every = 2500
    config.train.keep_checkpoints = 3
    config.serve.crop = 0.875
    return config
