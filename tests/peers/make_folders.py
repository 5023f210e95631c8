"""Makes small random models of other libraries, and stores their folders, inputs and outputs.

    python tests/peers/make_folders.py

writes `tests/interop/folders/NAME`, as the library saves a model, for each function of `FOLDERS`,
and `expected.npz` in it, the inputs and what the model answers. The tests load the folders.

    make test-peers

compares them with what the libraries say today, and lets the libraries load what we save.
"""

import pathlib
import sys

import numpy as np
import torch
from transformers import (
    DeiTConfig,
    DeiTForImageClassificationWithTeacher,
    ViTConfig,
    ViTForImageClassification,
)

FOLDER = pathlib.Path(__file__).parent.parent / "interop" / "folders"
# No size as another one: rows, columns, units, inner units, classes, batch.
VISION = {
    "image_size": (8, 12),
    "patch_size": 4,
    "hidden_size": 6,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 10,
    "id2label": {0: "ant", 1: "bee", 2: "cat"},
}
IMAGES = (2, 3, 8, 12)


def vit():
    """Makes a ViT of two blocks with its inputs."""
    return ViTForImageClassification(ViTConfig(**VISION)), {"pixel_values": images()}


def deit():
    """Makes a DeiT with a teacher's token and its inputs."""
    return DeiTForImageClassificationWithTeacher(DeiTConfig(**VISION)), {"pixel_values": images()}


def images():
    return torch.randn(IMAGES)


FOLDERS = (vit, deit)


def spread(model):
    """Draws all weights, so that no bias is zero and no weight is like another."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))


def main():
    for make in FOLDERS:
        torch.manual_seed(0)
        model, inputs = make()
        spread(model)
        with torch.no_grad():
            outputs = model.eval()(**inputs)
        folder = FOLDER / make.__name__
        model.save_pretrained(folder)
        arrays = {name: value.numpy() for name, value in inputs.items()}
        np.savez(folder / "expected.npz", outputs=outputs.logits.numpy(), **arrays)
        print(f"Wrote {folder.name}.", file=sys.stderr)


if __name__ == "__main__":
    main()
