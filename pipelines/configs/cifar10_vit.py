"""ViT-Lite-7/4 on CIFAR-10: patches of 4 x 4 pixels, a class token, no convolution.

The authors: 91.38 % of the test images after 200 epochs (Hassani et al., 2021). Augmentation and
optimizer are those of `cifar10_cct`.

Command: `python -m apps.train --config=cifar10_vit --workdir=runs/vit`

Not run to its end: 200 epochs take days on CPU cores, and no other machine was at hand. Its first
hundred steps were run.
"""

from pipelines.configs import cifar10_cct


def get_config():
    config = cifar10_cct.get_config()
    config.model.variant = "ViT-Lite-7/4"
    config.train.steps = 74_200  # 200 epochs
    return config
