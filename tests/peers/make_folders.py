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
import timm
import torch
from timm.models import convmixer, gcvit, mlp_mixer
from timm.models._hub import save_for_hf
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


def of_timm(architecture, kind=None, **arguments):
    """Makes a model of timm with its inputs.

    Args:
        architecture: str, the name in timm.
        kind: class of the model, where `create_model` takes no other sizes than the name's.
        **arguments: its sizes.
    """
    if kind is None:
        model = timm.create_model(architecture, img_size=IMAGES[2:], num_classes=3, **arguments)
        return model, {"x": images()}
    model = kind(num_classes=3, **arguments)
    model.pretrained_cfg = timm.get_pretrained_cfg(architecture).to_dict()
    # What `create_model` would have kept.
    names = ("img_size", "window_size")
    model.model_args = {name: arguments[name] for name in names if name in arguments}
    return model, {"x": images()}


TIMM = {"patch_size": 4, "embed_dim": 6, "depth": 2, "num_heads": 2, "mlp_ratio": 5 / 3}
BLOCKS = {"img_size": IMAGES[2:], "patch_size": 4, "embed_dim": 6, "num_blocks": 2}


def timm_vit():
    """Makes a ViT of timm."""
    return of_timm("vit_tiny_patch16_224", **TIMM)


def timm_vit_mean():
    """Makes a ViT of timm with registers, whose head reads the normalised mean."""
    return of_timm("vit_base_patch16_reg4_gap_256", **TIMM, init_values=1e-5)


def timm_deit():
    """Makes a DeiT of timm with a teacher's token."""
    return of_timm("deit_tiny_distilled_patch16_224", **TIMM)


def timm_deit3():
    """Makes a DeiT III of timm, whose class token has no position."""
    return of_timm("deit3_small_patch16_224", **TIMM)


def timm_cait():
    """Makes a CaiT of timm."""
    return of_timm("cait_xxs24_224", **TIMM, mlp_ratio_token_only=5 / 3)


def timm_mixer():
    """Makes an MLP-Mixer of timm."""
    return of_timm("mixer_s32_224", mlp_mixer.MlpMixer, **BLOCKS, mlp_ratio=(5 / 6, 5 / 3))


def timm_resmlp():
    """Makes a ResMLP of timm."""
    kind = {"block_layer": mlp_mixer.ResBlock, "norm_layer": mlp_mixer.Affine}
    return of_timm("resmlp_12_224", mlp_mixer.MlpMixer, **BLOCKS, **kind, mlp_ratio=5 / 3)


def timm_gmlp():
    """Makes a gMLP of timm."""
    kind = {"block_layer": mlp_mixer.SpatialGatingBlock, "mlp_layer": mlp_mixer.GatedMlp}
    return of_timm("gmlp_ti16_224", mlp_mixer.MlpMixer, **BLOCKS, **kind, mlp_ratio=5 / 3)


def timm_conv_mixer():
    """Makes a ConvMixer of timm, which does not ask for the size of images."""
    sizes = {"dim": 6, "depth": 2, "kernel_size": 3, "patch_size": 2}
    model, inputs = of_timm("convmixer_1024_20_ks9_p14", convmixer.ConvMixer, **sizes)
    model.pretrained_cfg["input_size"] = IMAGES[1:]
    return model, inputs


def timm_gcvit():
    """Makes a GC ViT of two stages, whose grids have 4 x 8 and 2 x 4 positions."""
    sizes = {"img_size": (16, 32), "embed_dim": 4, "depths": (2, 2), "num_heads": (1, 2)}
    options = {"window_size": ((2, 4), (2, 4)), "layer_scale": 1.0, "mlp_ratio": 2.0}
    model, _ = of_timm("gcvit_small", gcvit.GlobalContextVit, **sizes, **options)
    return model, {"x": torch.randn(2, 3, 16, 32)}


FOLDERS = (
    vit,
    deit,
    timm_vit,
    timm_vit_mean,
    timm_deit,
    timm_deit3,
    timm_cait,
    timm_mixer,
    timm_resmlp,
    timm_gmlp,
    timm_conv_mixer,
    timm_gcvit,
)


def spread(model):
    """Draws all weights, so that no bias is zero and no weight is like another."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
        for name, statistic in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):  # Variances are positive.
                statistic.add_(0.3 * torch.rand_like(statistic))


def main():
    for make in FOLDERS:
        torch.manual_seed(0)
        model, inputs = make()
        spread(model)
        with torch.no_grad():
            outputs = model.eval()(**inputs)
        folder = FOLDER / make.__name__
        if make.__name__.startswith("timm"):
            told = getattr(model, "model_args", None)
            save_for_hf(model, folder, model_args=told, safe_serialization=True)
        else:
            model.save_pretrained(folder)
            outputs = outputs.logits
        arrays = {name: value.numpy() for name, value in inputs.items()}
        np.savez(folder / "expected.npz", outputs=outputs.numpy(), **arrays)
        print(f"Wrote {folder.name}.", file=sys.stderr)


if __name__ == "__main__":
    main()
