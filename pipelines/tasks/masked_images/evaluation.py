"""What is exported of a masked autoencoder, and how it is scored."""

import keras
import ml_collections
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from pipelines.images.augmentation import resize_and_crop, to_levels
from pipelines.images.description import describe_input, read_description
from pipelines.images.models import image_size
from pipelines.images.module_inputs import evenly_spaced
from pipelines.images.run_images import read_split
from pipelines.tasks.masked_images.autoencoder import Autoencoder
from pipelines.tasks.masked_images.data import evaluation_batches
from pipelines.tasks.masked_images.objective import order_of
from pipelines.tasks.masked_images.pictures import draw_sheet, hide
from pipelines.training.task import Evaluation

SHOWN = 16  # images on the sheet
SHARES = (0, 10, 25, 50, 75, 90, 100)  # per cent of the images, in the table
USE = """In the folder of this file, with `pip install tensorflow` and a picture of yours:

```python
import tensorflow as tf

model = tf.saved_model.load(".")
image = tf.io.read_file("picture.jpg")[None]
print(model.signatures["embed"](image=image)["features"].shape)
answer = model.signatures["reconstruct"](image=image)
tf.io.write_file("reconstruction.png", tf.io.encode_png(answer["reconstruction"][0]))
```"""


def serving(model: keras.Model, config: ml_collections.ConfigDict, workdir: str) -> Autoencoder:
    """Makes the `tf.Module` whose signatures are exported."""
    return Autoencoder(model, read_description(workdir), image_size(config), config.serve.crop)


def example(module: Autoencoder, config: ml_collections.ConfigDict) -> str:
    """Runs one example through the module, for the model card."""
    images = read_split(config.data, module.description, "validation")
    pixels = resize_and_crop(tf.constant(images.image(0)), image_size(config), config.serve.crop)
    answer = module.reconstruct_pixels(pixels[None])
    features = module.embed_pixels(pixels[None])["features"]
    hidden = hide(np.zeros_like(answer["pixels"]), answer["mask"].numpy()) > 0
    levels = answer["reconstruction"].numpy().astype(int)
    difference = np.abs(levels - answer["pixels"].numpy())[hidden].mean()
    return (
        "- input: the first image of the validation set\n"
        f"- output: a vector of {features.shape[-1]} numbers, and a reconstruction whose hidden "
        f"pixels differ by {difference:.1f} of 255 levels on average\n"
    )


def card(config: ml_collections.ConfigDict, workdir: str) -> dict[str, str]:
    """Writes the task's part of the model card: how it learned, input, and code."""
    hidden = f"{config.mask.ratio:.0%} of the patches of each image were hidden"
    return {
        "Training": f"As a masked autoencoder: no class was used, {hidden}.",
        "Input": describe_input(read_description(workdir), image_size(config), config.serve.crop),
        "Use": USE,
    }


def evaluate(module: Autoencoder, config: ml_collections.ConfigDict, split: str) -> Evaluation:
    """Computes the loss of each image of a split behind a mask of its own, always the same.

    Args:
        module: what `serving` returns.
        config: the resolved config.
        split: `"test"` or `"validation"`.

    Returns:
        The mean loss, a table of how it is spread, a sheet of images spread evenly over the split
        (each with its mask and its reconstruction), and the loss of each image.
    """
    images = read_split(config.data, module.description, split)
    batches = evaluation_batches(images, config, module.description)
    count = len(images.labels)
    shown = evenly_spaced(count, SHOWN)
    losses, kept = _losses(module.autoencoder, batches, shown)
    losses = losses[:count]
    rows = [
        {"image": str(images.names[index]) if len(images.names) else index, "loss": float(loss)}
        for index, loss in enumerate(losses)
    ]
    scores = {"loss": float(losses.mean(dtype=float)), "images": count}
    names = [images.name(index) for index in shown]
    return Evaluation(scores, _table(losses), {"reconstructions": _draw(module, kept, names)}, rows)


def _losses(model, batches, shown):
    """Returns the loss of each image, and those images of the batches that are shown."""

    @tf.function
    def compute(batch):
        return model.image_losses(batch["images"], order=order_of(batch), training=False)

    losses, kept, start = [], [], 0
    for batch in tqdm(batches, disable=None, leave=False, unit="batch"):  # On a terminal alone.
        losses.append(compute(batch).numpy())
        inside = shown[(shown >= start) & (shown < start + len(losses[-1]))] - start
        kept.append({key: batch[key].numpy()[inside] for key in ("images", "random")})
        start += len(losses[-1])
    kept = {key: np.concatenate([part[key] for part in kept]) for key in kept[0]}
    return np.concatenate(losses), kept


def _draw(module, batch, names):
    """Draws images, what the model sees of them, and what it makes of that."""
    pixels = to_levels(batch["images"], *module.normalization)
    answer = module.fill(pixels, order_of(batch))
    pictures = {
        "image": pixels,
        "what is seen": hide(pixels, answer["mask"].numpy()),
        "reconstruction": answer["reconstruction"].numpy(),
    }
    return draw_sheet(pictures, names)


def _table(losses: np.ndarray) -> str:
    """Writes how the losses are spread, as Markdown."""
    values = np.percentile(losses, SHARES)
    rows = [f"| {share} | {value:.4f} |" for share, value in zip(SHARES, values, strict=True)]
    return "\n".join(["| of the images, % | loss up to |", "| ---: | ---: |", *rows])
