"""Makes the stored samples: files of each kind, small, as the code of the day writes them.

Command: `python -m tests.stored.make tests/stored/VERSION`, once for each version that is released.
`samples_test.py` reads the files of every version with the code of the day.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  Its operations are in the graph of a translator.
from PIL import Image

from kerasformer.models import Seq2SeqTransformer, VisionTransformer

SENTENCES = ["zwei Hunde", "", "drei Katzen"]
STEPS, LATER = 101, 107  # A run that is stored, and where the same run ends when it is resumed.
TRANSLATION = {
    "data.format": "tsv",
    "data.folder": ".",
    "data.columns": (0, 1),
    **{f"data.{split}": "pairs.tsv" for split in ("train", "validation", "test")},
    "tokenizer.vocabulary_size": 26,
    "tokenizer.byte_fallback": False,
    "tokenizer.normalization": "identity",
    "model.num_layers": 1,
    "model.hidden_dim": 8,
    "model.num_heads": 2,
    "model.intermediate_dim": 11,
    "train.batch_tokens": 101,
    "train.max_length": 53,
    "train.learning_rate": 0.03,
    "train.schedule": "inverse_square_root",
    "train.warmup_steps": 7,
    "train.log_every": 6,
    "train.validate_every": 101,
    "train.checkpoint_every": 101,
    "train.ema": 0.5,
    "decode.max_source_length": 7,
}
CLASSIFICATION = {
    "model.num_layers": 1,
    "model.hidden_dim": 8,
    "model.num_heads": 2,
    "model.intermediate_dim": 11,
    "train.steps": 2,
    "train.warmup_steps": 1,
}


def models():
    """Makes a model of each kind, and inputs for it."""
    random = np.random.default_rng(3)
    sizes = {"num_layers": 1, "hidden_dim": 12, "num_heads": 3, "intermediate_dim": 13}
    rates = {"dropout": 0.1, "attention_dropout": 0.1}
    ids = {
        "source": random.integers(1, 23, (2, 7), "int32"),
        "target": random.integers(1, 23, (2, 5), "int32"),
    }
    ids["source"][0, -2:] = 0
    yield "Seq2SeqTransformer", Seq2SeqTransformer(23, **sizes, **rates), ids
    image = {"inputs": random.normal(size=(2, 6, 10, 3)).astype("float32")}
    vision = {"image_size": (6, 10), "num_classes": 7, "patch_size": 2, "distillation": True}
    yield "VisionTransformer", VisionTransformer(**vision, **sizes, **rates), image


def save_models(folder):
    """Writes each model, and its outputs beside it."""
    for name, model, inputs in models():
        values = inputs if len(inputs) > 1 else inputs["inputs"]
        model(values)
        random = np.random.default_rng(5)
        model.set_weights([0.5 * random.normal(size=w.shape) for w in model.weights])
        model.save(folder / f"{name}.keras")
        outputs = keras.ops.convert_to_numpy(model(values))
        np.savez(folder / f"{name}.npz", outputs=outputs, **inputs)


def apps(folder, *commands):
    """Runs commands of the programs in a folder."""
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    for program, *flags in commands:
        command = [sys.executable, "-m", f"apps.{program}", *flags]
        subprocess.run(command, cwd=folder, env=environment, check=True)


CONFIG = """from pipelines.configs import {base}


def get_config():
    config = {base}.get_config()
    with config.unlocked():
        config.update_from_flattened_dict({changes})
    return config
"""


def answers(export, key, value):
    """Asks an export as a user does; returns what it says as JSON."""
    outputs = tf.saved_model.load(str(export)).signatures["serving_default"](**{key: value})
    arrays = {name: tensor.numpy() for name, tensor in outputs.items()}
    for name, array in arrays.items():
        if array.dtype == object:
            arrays[name] = np.char.decode(array.astype(bytes), "utf-8")
    return {name: array.tolist() for name, array in arrays.items()}


def save_runs(folder):
    """Writes a run with its export and its evaluation, and the export of a classifier."""
    pairs = ["ein Hund\ta dog", "zwei Hunde\ttwo dogs", "drei Katzen\tthree cats"]
    (folder / "pairs.tsv").write_text("\n".join(pairs) + "\n")
    for base, changes in (("demo_translation", TRANSLATION), ("demo_digits", CLASSIFICATION)):
        (folder / f"my_{base}.py").write_text(CONFIG.format(base=base, changes=changes))
    train = ["train", "--config=my_demo_translation.py"]
    apps(
        folder,
        [*train, "--workdir=run", f"--config.train.steps={STEPS}"],
        ["evaluate", "--workdir=run"],
        ["export", "--workdir=run"],
        [*train, "--workdir=later", f"--config.train.steps={LATER}"],
        ["train", "--workdir=digits", "--config=my_demo_digits.py"],
        ["export", "--workdir=digits"],
    )
    (folder / "later" / "metrics.jsonl").rename(folder / "later.jsonl")
    (folder / "digits" / "export").rename(folder / "classifier")
    (folder / "run" / "export").rename(folder / "translator")
    random = np.random.default_rng(7)
    Image.fromarray(random.integers(0, 256, (11, 13), "uint8")).save(folder / "image.png")
    image = tf.constant([(folder / "image.png").read_bytes()])
    expected = {
        "translator": answers(folder / "translator/1", "text", tf.constant(SENTENCES)),
        "classifier": answers(folder / "classifier/1", "image", image),
    }
    (folder / "answers.json").write_text(json.dumps(expected, indent=1) + "\n")
    for name in ("classifier", "translator"):  # A graph is large, and a tenth when compressed.
        shutil.make_archive(folder / name, "xztar", root_dir=folder / name)
    for name in ("later", "digits", "classifier", "translator"):
        shutil.rmtree(folder / name)
    # Pictures and what TensorBoard shows are never read again.
    for path in [*folder.glob("run/events.*"), *folder.glob("run/*.png"), *folder.glob("my_*.py")]:
        path.unlink()


if __name__ == "__main__":
    made = Path(sys.argv[1]).resolve()
    made.mkdir(parents=True)
    keras.utils.set_random_seed(2017)
    save_models(made)
    save_runs(made)
