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
    MarianConfig,
    MarianMTModel,
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
TRANSLATION = {
    "vocab_size": 45,  # Of the tokenizers that `make_marian.py` makes.
    "d_model": 6,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 10,
    "decoder_ffn_dim": 10,
    "activation_function": "swish",
    "scale_embedding": True,
    "max_position_embeddings": 512,
    "pad_token_id": 44,
    "decoder_start_token_id": 44,
    "eos_token_id": 0,
    "forced_eos_token_id": 0,
}


def vit():
    """Makes a ViT of two blocks with its inputs."""
    return ViTForImageClassification(ViTConfig(**VISION)), {"pixel_values": images()}


def deit():
    """Makes a DeiT with a teacher's token and its inputs."""
    return DeiTForImageClassificationWithTeacher(DeiTConfig(**VISION)), {"pixel_values": images()}


def marian():
    """Makes a translator of two blocks with a padded source and a target."""
    model = MarianMTModel(MarianConfig(**TRANSLATION))
    model.final_logits_bias.normal_(0, 2)
    model.final_logits_bias[0, 0] = 4  # Translations end.
    source = torch.tensor([[5, 9, 3, 7, 0], [37, 11, 0, 44, 44]])
    target = torch.tensor([[44, 6, 2, 8], [44, 41, 3, 1]])
    inputs = {"input_ids": source, "attention_mask": (source != 44).long()}
    return model, {**inputs, "decoder_input_ids": target}


def images():
    return torch.randn(IMAGES)


FOLDERS = (vit, deit, marian)


def spread(model):
    """Draws all weights, so that no bias is zero and no weight is like another."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:  # Sinusoids are made and not stored.
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
