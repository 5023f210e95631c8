"""Fine-tuning of a published ViT-B/16, of ImageNet-21k, on a folder of photographs.

ViT's own fine-tuning (Dosovitskiy et al., 2020, and its code): 500 steps of 512 images of 384 x 384
pixels by SGD with a momentum of 0.9, a rate of 0.03 after a warm-up and along a cosine, no weight
decay, no mixing, and gradients clipped at 1. There it is 98.59 % of CIFAR-10's test images after
500 steps and 99.02 % after 10,000.

Command: `python -m apps.train --config=pretrained_images --config.data.folder=my_images \
  --workdir=runs/photos`

Weights of a folder instead of a download: `--config.start.weights=FOLDER`. The smaller DeiT-S:
`--config.start.weights=timm://deit_small_patch16_224.fb_in1k --config.model.image_size=224`. On
CIFAR-10: `--config.data.format=tfds --config.data.name=cifar10 --config.data.data_dir=DIR
--config.data.train=train[:98%] --config.data.validation=train[98%:] --config.data.test=test`.

Not run as it is: neither the network nor a GPU was at hand. Docs/weights.md says what was run with
random weights of the same layout.
"""

from pipelines.configs import my_images


def get_config():
    config = my_images.get_config()
    config.start.weights = "timm://vit_base_patch16_224.augreg_in21k"
    config.model.image_size = 384
    config.augment.cutmix = 0.0
    config.train.epochs = None
    config.train.steps = 500
    config.train.batch_size = 128
    config.train.accumulate = 4  # Batches of 512, in the memory of 128.
    config.train.optimizer = "sgd"
    config.train.beta_1 = 0.9
    config.train.learning_rate = 0.03
    config.train.warmup_steps = "10%"
    config.train.weight_decay = 0.0
    config.train.label_smoothing = 0.0
    config.train.ema = 0.0
    config.train.validate_every = "10%"
    config.train.checkpoint_every = "10%"
    return config
