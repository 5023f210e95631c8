"""The side of timm in the vision benchmark, as a process of its own.

PyTorch and TensorFlow each bring a compiler, and one process cannot load both. Started as
`python -m pipelines.benchmarks.timm_peer SIZES`, with the arguments of `make_step` as JSON, it
makes a step for each line of standard input and answers with a line when the step is done.
"""

import functools
import json
import sys
from collections.abc import Callable

import numpy as np
import timm
import torch

LEARNING_RATE = 1e-3


def make_step(sizes: dict, is_training: bool, precision: str) -> Callable:
    """Makes a step of timm's model in eager mode, which returns the loss or the logits.

    Args:
        sizes: the fields of `pipelines.benchmarks.vision.Sizes`.
        is_training: whether the step trains.
        precision: `"float32"` or `"mixed_bfloat16"`.
    """
    side, count = sizes["image_size"], sizes["batch_size"]
    random = np.random.default_rng(0)
    x = torch.tensor(random.random((count, 3, side, side), "float32"))
    y = torch.tensor(random.integers(0, sizes["num_classes"], count))
    model = timm.models.VisionTransformer(
        img_size=side,
        patch_size=sizes["patch_size"],
        embed_dim=sizes["hidden_dim"],
        depth=sizes["num_layers"],
        num_heads=sizes["num_heads"],
        mlp_ratio=sizes["intermediate_dim"] / sizes["hidden_dim"],
        num_classes=sizes["num_classes"],
    )
    model.train(is_training)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE)
    cast = functools.partial(torch.autocast, "cpu", torch.bfloat16, precision != "float32")

    def forward():
        with torch.inference_mode(), cast():
            return model(x).float().numpy()

    def train():
        optimizer.zero_grad()
        with cast():
            loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return train if is_training else forward


if __name__ == "__main__":
    step = make_step(**json.loads(sys.argv[1]))
    print(flush=True)
    for _ in sys.stdin:
        step()
        print(flush=True)
