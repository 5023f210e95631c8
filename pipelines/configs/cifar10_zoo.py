"""Families of image models on CIFAR-10, with the data and the training of `cifar10_cpu`.

Command: `python -m apps.train --config=cifar10_zoo --workdir=runs/cct` for CCT, and with
`--config=cifar10_zoo:ConvMixer` for another.

`python -m apps.bench --work=zoo` trains all of them for the same time and scores them.

ConvMixer has patches of 2 x 2 pixels and kernels of 5 x 5. The published 256/8 has 1 and 9, which
takes five times as long on a CPU. It trains in float32, because CPUs are slower at depthwise
convolutions in bfloat16.
"""

from typing import Any

from pipelines.configs import cifar10_cpu

# What each family changes of `config.model`.
FAMILIES: dict[str, dict[str, Any]] = {
    "CCT": {},
    "ViT-Lite": {"variant": "ViT-Lite-6/4"},
    "CaiT": {"name": "cait", "variant": "XXS24", "patch_size": 4, "num_layers": 6},
    "Performer": {"name": "performer", "variant": "Lite-4/4"},
    "GC-ViT": {"name": "gcvit", "variant": "Lite"},
    "MLP-Mixer": {"name": "mixer", "variant": "Lite-4/4"},
    "gMLP": {"name": "gmlp", "variant": "Lite-4/4"},
    "ConvMixer": {"name": "conv_mixer", "variant": "256/8", "patch_size": 2, "kernel_size": 5},
    "ResNet": {"name": "convolutional", "variant": "ResNet-20"},
}


def get_config(family="CCT"):
    if family not in FAMILIES:
        raise ValueError(f"Expected cifar10_zoo: and one of {list(FAMILIES)}, received {family!r}.")
    config = cifar10_cpu.get_config()
    config.model.update(FAMILIES[family])
    if family == "ConvMixer":
        config.train.precision = "float32"
    return config
