"""Makes small random models of transformers, and stores weights, inputs and outputs.

    python tests/peers/make_samples.py

writes `FAMILY.npz` beside this file for each function of `FAMILIES`, the same each time. The tests
of the models copy the weights and compare the outputs.

    make test-peers

computes the same anew and compares it with the files, in an environment of torch and transformers.
What `kerasformer.interop` loads has folders instead, see `make_folders.py`.
"""

import pathlib
import sys

import numpy as np
import torch
from transformers import ViTMAEConfig, ViTMAEForPreTraining

FOLDER = pathlib.Path(__file__).parent


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


FAMILIES = {"mae": make_mae}


def sample(make):
    """Returns random weights of a model, zeros and ones included, and what it computes."""
    random = np.random.default_rng(1)
    model = make().eval()
    arrays = {}
    for name, weight in model.state_dict().items():
        if "pos" in name:  # They are fixed.
            arrays[name] = weight.numpy()
        elif weight.dtype == torch.float32:
            arrays[name] = (random.standard_normal(weight.shape) * 0.4).astype("float32")
    model.load_state_dict({k: torch.from_numpy(v) for k, v in arrays.items()}, strict=False)
    images = random.standard_normal((2, 3, 12, 12)).astype("float32")
    with torch.no_grad():
        answers = answer_masked(model, torch.from_numpy(images), random)
    return {"inputs": images.transpose(0, 2, 3, 1), **answers, **arrays}


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
        arrays = sample(make)
        if sys.argv[1:]:
            compare(family, arrays)
        else:
            np.savez_compressed(FOLDER / f"{family}.npz", **arrays)
