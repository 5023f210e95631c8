"""What is exported of a masked autoencoder, and how it is scored."""

import keras
import ml_collections
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from pipelines.images.batches import evaluation_dataset
from pipelines.images.description import read_description
from pipelines.tasks.masked_images.autoencoder import Autoencoder
from pipelines.tasks.masked_images.config import image_size
from pipelines.tasks.masked_images.data import num_patches, read_split
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
    images = read_split(config, module.description, "validation")
    pixels = module.fit(tf.constant(images.image(0)))[None]
    answer = module.reconstruct_pixels(pixels)
    features = module.embed_pixels(pixels)["features"]
    hidden = hide(np.ones_like(pixels), answer["mask"].numpy()) != 1
    difference = np.abs(answer["reconstruction"].numpy().astype(float) - pixels)[hidden].mean()
    return (
        "- input: the first image of the validation set\n"
        f"- output: a vector of {features.shape[-1]} numbers, and a reconstruction whose hidden "
        f"pixels differ by {difference:.1f} of 255 levels on average\n"
    )


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
    images = read_split(config, module.description, split)
    batches = evaluation_dataset(
        images,
        config.serve.batch_size,
        image_size(config),
        *module.normalization,
        config.serve.crop,
        num_random=num_patches(config),
    )
    count = len(images.labels)
    shown = np.unique(np.linspace(0, count - 1, SHOWN).astype(int))
    losses, kept = _losses(module.model, batches, shown)
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
    answer = module.fill(tf.constant(batch["images"]), order_of(batch))
    pixels = module.levels(batch["images"]).numpy()
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
