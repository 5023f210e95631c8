"""A classifier of your own pictures: one folder per class, or a table of paths and labels.

`"auto"` is what the pictures decide: how the folder is laid out, the model, its size, and how long
it is trained. What is chosen is printed and stands in the run's `config.json`; a value that you
give (`--config.model.image_size=128`) stays.

Command: `python -m apps.train --config=my_images --config.data.folder=my_images --workdir=runs/1`

Result: see docs/vision.md, for 210 pictures of 3 classes, 5,000 of 10, and CIFAR-10 as files.
"""

from pipelines.tasks import classification

CHOSEN = {
    "data": ("format", "train", "validation", "test", "channels"),
    "augment": ("padding", "min_area", "flip"),
    "model": ("variant", "image_size"),
    "train": ("epochs", "batch_size", "learning_rate", "ema", "precision"),
    "serve": ("crop",),
}


def get_config():
    config = classification.default_config()
    for part, keys in CHOSEN.items():
        config[part].update(dict.fromkeys(keys, "auto"))
    config.data.folder = ""
    config.augment.cutmix = 1.0
    config.augment.mix_probability = 0.5
    config.model.attention_dropout = 0.0
    config.model.stochastic_depth = 0.0
    config.train.warmup_steps = "5%"
    config.train.validate_every = "5%"
    config.train.checkpoint_every = "5%"
    config.train.keep_checkpoints = 2
    config.serve.batch_size = 64
    return config
