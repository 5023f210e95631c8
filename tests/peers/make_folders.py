"""Makes small random models of other libraries, and stores their folders, inputs and outputs.

    python tests/peers/make_folders.py [NAME ...]

writes `tests/interop/folders/NAME`, as the library saves a model, for each function of `FOLDERS`,
and `expected.npz` in it, the inputs and what the model answers. The tests load the folders.

    make test-peers

compares them with what the libraries say today (`--check`), and lets the libraries load what we
save of them (`--check FOLDER`, once `save_folders.py FOLDER` has written it).
"""

import json
import pathlib
import sys

import numpy as np
import timm
import torch
import transformers
from timm.models import convmixer, gcvit, mlp_mixer
from timm.models._hub import save_for_hf

FOLDER = pathlib.Path(__file__).parent.parent / "interop" / "folders"
# No size as another one: rows, columns, units, inner units, classes, batch.
LABELS = {"id2label": {0: "ant", 1: "bee", 2: "cat"}}
VISION = {
    "image_size": (8, 12),
    "patch_size": 4,
    "hidden_size": 6,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 10,
    **LABELS,
}
IMAGES = (2, 3, 8, 12)
# Of words: ids, units, inner units, positions, kinds of tokens, length.
BERT = {
    "vocab_size": 31,
    "hidden_size": 6,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 10,
    "max_position_embeddings": 11,
    "type_vocab_size": 3,
    **LABELS,
}
DISTILBERT = {
    "vocab_size": 31,
    "dim": 6,
    "n_layers": 2,
    "n_heads": 2,
    "hidden_dim": 10,
    "max_position_embeddings": 11,
    **LABELS,
}
GPT2 = {"vocab_size": 31, "n_embd": 6, "n_layer": 2, "n_head": 2, "n_inner": 10, "n_positions": 11}
LENGTH = 7
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
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**VISION))
    return model, {"pixel_values": images()}


def deit():
    """Makes a DeiT with a teacher's token and its inputs."""
    config = transformers.DeiTConfig(**VISION)
    model = transformers.DeiTForImageClassificationWithTeacher(config)
    return model, {"pixel_values": images()}


def marian():
    """Makes a translator of two blocks with a padded source and a target."""
    model = transformers.MarianMTModel(transformers.MarianConfig(**TRANSLATION))
    model.final_logits_bias.normal_(0, 2)
    model.final_logits_bias[0, 0] = 4  # Translations end.
    source = torch.tensor([[5, 9, 3, 7, 0], [37, 11, 0, 44, 44]])
    target = torch.tensor([[44, 6, 2, 8], [44, 41, 3, 1]])
    inputs = {"input_ids": source, "attention_mask": (source != 44).long()}
    return model, {**inputs, "decoder_input_ids": target}


def images():
    return torch.randn(IMAGES)


def bert():
    """Makes an encoder with a pooler, and texts of two kinds of tokens."""
    return transformers.BertModel(transformers.BertConfig(**BERT)), texts(True)


def bert_classifier():
    """Makes a classifier of texts."""
    config = transformers.BertConfig(**BERT)
    return transformers.BertForSequenceClassification(config), texts(True)


def bert_words():
    """Makes a model that fills in words; the answers are those of its encoder."""
    config = transformers.BertConfig(**BERT, output_hidden_states=True)
    return transformers.BertForMaskedLM(config), texts(True)


def distilbert():
    """Makes an encoder without a pooler."""
    return transformers.DistilBertModel(transformers.DistilBertConfig(**DISTILBERT)), texts()


def distilbert_classifier():
    """Makes a classifier of texts."""
    config = transformers.DistilBertConfig(**DISTILBERT)
    return transformers.DistilBertForSequenceClassification(config), texts()


def distilbert_tagger():
    """Makes a classifier of tokens."""
    config = transformers.DistilBertConfig(**DISTILBERT)
    return transformers.DistilBertForTokenClassification(config), texts()


def gpt2():
    """Makes a language model whose last token is padding too."""
    special = dict.fromkeys(("bos_token_id", "eos_token_id"), 30)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2, **special)), texts(pad=30)


def texts(typed=False, pad=0):
    """Draws texts of which the first has two tokens of padding."""
    ids = torch.randint(1, 30, (2, LENGTH))
    ids[0, -2:] = pad
    inputs = {"input_ids": ids, "attention_mask": (ids != pad).long()}
    return {**inputs, **({"token_type_ids": torch.randint(0, 3, ids.shape)} if typed else {})}


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
    bert,
    bert_classifier,
    bert_words,
    distilbert,
    distilbert_classifier,
    distilbert_tagger,
    gpt2,
    marian,
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
            if weight.requires_grad:  # Sinusoids are made and not stored.
                weight.add_(0.3 * torch.randn_like(weight))
        for name, statistic in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):  # Variances are positive.
                statistic.add_(0.3 * torch.rand_like(statistic))


def make_anew(make):
    """Returns a model and its inputs, the same each time."""
    torch.manual_seed(0)
    model, inputs = make()
    spread(model)
    return model, inputs


def answers(model, inputs):
    """Returns what a model computes, by name."""
    with torch.no_grad():
        found = model.eval()(**inputs)
    if isinstance(found, torch.Tensor):
        return {"outputs": found.numpy()}
    if found.get("hidden_states") is not None:
        return {"outputs": found.hidden_states[-1].numpy()}
    arrays = {"outputs": found.get("logits", found.get("last_hidden_state")).numpy()}
    if "pooler_output" in found:
        arrays["pooled"] = found.pooler_output.numpy()
    return arrays


def write(make):
    """Writes the folder of a model and its answers."""
    model, inputs = make_anew(make)
    folder = FOLDER / make.__name__
    if make.__name__.startswith("timm"):
        told = getattr(model, "model_args", None)
        save_for_hf(model, folder, model_args=told, safe_serialization=True)
    else:
        model.save_pretrained(folder)
    arrays = {name: value.numpy() for name, value in inputs.items()}
    np.savez(folder / "expected.npz", **answers(model, inputs), **arrays)
    print(f"Wrote {folder.name}.", file=sys.stderr)


def compare(arrays, name, what):
    """Ends the program where answers are not the stored ones.

    Where a text has padding, language models may say anything.
    """
    stored = np.load(FOLDER / name / "expected.npz")
    for key, array in arrays.items():
        expected = stored[key]
        if name.startswith("gpt2"):
            is_token = stored["attention_mask"].astype(bool)
            array, expected = array[is_token], expected[is_token]
        np.testing.assert_allclose(array, expected, 1e-5, 1e-5, err_msg=f"{name}: {key} of {what}")
        print(f"{name}: {key} of {what} differ by {np.abs(array - expected).max():.0e}.")


def check_saved(folder, name):
    """Loads what we saved, by the class that its config names, and compares its answers."""
    [architecture] = json.loads((folder / "config.json").read_text())["architectures"]
    loaded, report = getattr(transformers, architecture).from_pretrained(
        folder, output_loading_info=True
    )
    # An encoder without a pooler gets a new one, which nobody reads.
    missing = [key for key in report["missing_keys"] if not key.startswith("pooler.")]
    if missing or report["unexpected_keys"] or report["mismatched_keys"]:
        sys.exit(f"{name}: {report}")
    stored = np.load(FOLDER / name / "expected.npz")
    inputs = {
        k: torch.from_numpy(stored[k]) for k in stored.files if k not in ("outputs", "pooled")
    }
    arrays = answers(loaded, inputs)
    compare({k: x for k, x in arrays.items() if k in stored.files}, name, "what we saved")


def main(arguments):
    if arguments[:1] == ["--check"]:
        for make in FOLDERS:
            compare(answers(*make_anew(make)), make.__name__, "a new one")
            for folder in arguments[1:]:
                saved = pathlib.Path(folder) / make.__name__
                if saved.exists():
                    check_saved(saved, make.__name__)
    else:
        for make in FOLDERS:
            if not arguments or make.__name__ in arguments:
                write(make)


if __name__ == "__main__":
    main(sys.argv[1:])
