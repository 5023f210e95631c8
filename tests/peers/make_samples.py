"""Makes small random models of timm and transformers, and stores weights, inputs and outputs.

    python tests/peers/make_samples.py

writes `FAMILY.npz` beside this file for each function of `FAMILIES`, the same each time. The tests
of the models copy the weights and compare the outputs.

    make test-peers

computes the same anew and compares it with the files, in an environment of torch, timm and
transformers.
"""

import pathlib
import sys

import numpy as np
import torch
from timm.models import cait, convmixer, gcvit, mlp_mixer
from transformers import ViTMAEConfig, ViTMAEForPreTraining

FOLDER = pathlib.Path(__file__).parent
# No axis as long as another: rows, columns, channels, classes, batch.
IMAGES, CLASSES = (2, 3, 8, 12), 5


def make_cait():
    """Makes a CaiT of two blocks and two class blocks, behind patches of 4 x 4 pixels."""
    return cait.Cait(
        img_size=IMAGES[2:],
        patch_size=4,
        num_classes=CLASSES,
        embed_dim=12,
        depth=2,
        num_heads=3,
        mlp_ratio=2.0,
        mlp_ratio_token_only=2.0,
    )


SIZES = {"img_size": IMAGES[2:], "patch_size": 4, "num_classes": CLASSES, "embed_dim": 12}


def make_mlp_mixer():
    """Makes an MLP-Mixer of two blocks."""
    return mlp_mixer.MlpMixer(**SIZES, num_blocks=2, mlp_ratio=(0.75, 2.0))


def make_res_mlp():
    """Makes a ResMLP of two blocks."""
    block, norm = mlp_mixer.ResBlock, mlp_mixer.Affine
    return mlp_mixer.MlpMixer(
        **SIZES, num_blocks=2, mlp_ratio=2, block_layer=block, norm_layer=norm
    )


def make_gmlp():
    """Makes a gMLP of two blocks."""
    block, mlp = mlp_mixer.SpatialGatingBlock, mlp_mixer.GatedMlp
    return mlp_mixer.MlpMixer(**SIZES, num_blocks=2, mlp_ratio=6, block_layer=block, mlp_layer=mlp)


def make_conv_mixer():
    """Makes a ConvMixer of two blocks."""
    sizes = {"kernel_size": 3, "patch_size": 2, "num_classes": CLASSES}
    return convmixer.ConvMixer(12, 2, **sizes)


def make_gcvit():
    """Makes a GC ViT of two stages, whose grids have 4 x 6 and 2 x 3 positions."""
    return gcvit.GlobalContextVit(
        img_size=(16, 24),
        window_size=((2, 3), (2, 3)),
        num_classes=CLASSES,
        embed_dim=8,
        depths=(2, 2),
        num_heads=(2, 4),
        mlp_ratio=2.0,
        layer_scale=1.0,
    )


def make_mae():
    """Makes a masked autoencoder of two blocks and one, whose grid is a square as there always."""
    config = ViTMAEConfig(
        image_size=12,
        patch_size=4,
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=24,
        decoder_hidden_size=8,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=32,
        layer_norm_eps=1e-6,
        norm_pix_loss=True,
    )
    model = ViTMAEForPreTraining(config)
    # Version 5.24 leaves the fixed positions of a new model at zero, unless it is asked again.
    model.vit.embeddings.patch_embeddings.projection._is_hf_initialized = False
    model.vit.embeddings.initialize_weights()
    model.decoder.initialize_weights(num_patches=9)
    return model


FAMILIES = {
    "cait": make_cait,
    "conv_mixer": make_conv_mixer,
    "gcvit": make_gcvit,
    "gmlp": make_gmlp,
    "mae": make_mae,
    "mlp_mixer": make_mlp_mixer,
    "res_mlp": make_res_mlp,
}


def sample(family, make):
    """Returns random weights of a model, zeros and ones included, and what it computes."""
    random = np.random.default_rng(1)
    model = make().eval()
    arrays = {}
    for name, weight in model.state_dict().items():
        if "pos" in name and family == "mae":  # They are fixed.
            arrays[name] = weight.numpy()
        elif weight.dtype == torch.float32:
            value = random.standard_normal(weight.shape) * 0.4
            # Variances, of batch normalisation, are positive.
            value = abs(value) + 0.5 if name.endswith("running_var") else value
            arrays[name] = value.astype("float32")
    model.load_state_dict({k: torch.from_numpy(v) for k, v in arrays.items()}, strict=False)
    # GC ViT makes its grid of every fourth pixel, and then of every eighth.
    shape = (*IMAGES[:2], *{"gcvit": (16, 24), "mae": (12, 12)}.get(family, IMAGES[2:]))
    images = random.standard_normal(shape).astype("float32")
    with torch.no_grad():
        answer = answer_masked if family == "mae" else answer_images
        answers = answer(model, torch.from_numpy(images), random)
    return {"inputs": images.transpose(0, 2, 3, 1), **answers, **arrays}


def answer_images(model, images, random):
    """Returns what a classifier computes."""
    return {"outputs": model(images).numpy()}


def answer_masked(model, images, random):
    """Returns the noise that chose the mask, the mask, the predictions, and both kinds of loss."""
    noise = random.random((len(images), 9)).astype("float32")
    found = model(images, noise=torch.from_numpy(noise))
    model.config.norm_pix_loss = False
    of_pixels = model(images, noise=torch.from_numpy(noise))
    answers = {"noise": noise, "loss": found.loss.numpy(), "loss_of_pixels": of_pixels.loss.numpy()}
    return answers | {"outputs": found.logits.numpy(), "mask": found.mask.numpy()}


def compare(family, arrays):
    """Ends the program where a stored sample is not what is computed now."""
    stored = dict(np.load(FOLDER / f"{family}.npz"))
    if stored.keys() != arrays.keys():
        sys.exit(f"{family}: the names differ in {sorted(stored.keys() ^ arrays.keys())}.")
    for name, array in arrays.items():
        np.testing.assert_allclose(stored[name], array, 1e-5, 1e-5, err_msg=f"{family}: {name}")
    print(f"{family}: {len(arrays)} arrays are as stored.")


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(f"Expected --check or nothing, received {sys.argv[1:]}.")
    for family, make in FAMILIES.items():
        arrays = sample(family, make)
        if sys.argv[1:]:
            compare(family, arrays)
        else:
            np.savez_compressed(FOLDER / f"{family}.npz", **arrays)
