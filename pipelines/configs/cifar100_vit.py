"""ViT-Lite-7/4 on CIFAR-100, with the recipe of `cifar10_vit`.

The authors: 69.36 % of the test images after 200 epochs (Hassani et al., 2021).

Command: `python -m apps.train --config=cifar100_vit --workdir=runs/vit100`

Not run: the data is downloaded by TFDS, and was not at hand. CIFAR-10, in the same form, was.
"""

from pipelines.configs import cifar10_vit


def get_config():
    config = cifar10_vit.get_config()
    config.data.name = "cifar100"
    config.data.data_dir = "~/tensorflow_datasets"
    config.data.download = True
    return config
