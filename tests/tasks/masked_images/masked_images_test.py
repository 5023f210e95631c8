"""The task of masked images: what it refuses, its loss, its evaluation, and what it is good for."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kerasformer.layers.embeddings.masking import hidden_patches
from pipelines.data.shards import Shard
from pipelines.images.description import describe_input, read_description
from pipelines.images.labelled import read_images
from pipelines.images.models import make as make_encoder
from pipelines.runs.config import read_config
from pipelines.runs.weights import load_model
from pipelines.tasks import masked_images
from pipelines.tasks.masked_images.data import evaluation_batches
from pipelines.tasks.masked_images.objective import order_of
from pipelines.tasks.masked_images.pictures import hide, to_levels
from tests import programs

MODEL = {"image_size": 8, "patch_size": 2, "num_layers": 1, "hidden_dim": 12, "num_heads": 3}
MODEL |= {"intermediate_dim": 13, "pool": "mean", "num_prefix_tokens": 1}
DECODER = {"num_layers": 1, "hidden_dim": 8, "num_heads": 2}


def make_config(**changes):
    config = masked_images.default_config()
    config.augment.min_area = 1.0
    config.model.update(MODEL)
    config.decoder.update(DECODER)
    config.train.update(steps=3, batch_size=7)
    config.serve.batch_size = 61
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A folder with the file that a run of the digits prepares."""
    folder = str(tmp_path_factory.mktemp("run"))
    masked_images.datasets(make_config(), folder)
    return folder


@pytest.fixture(scope="module")
def module(workdir):
    """What would be exported of a model that knows nothing."""
    return masked_images.serving(
        masked_images.build(make_config(), workdir), make_config(), workdir
    )


class CheckTest:
    @pytest.mark.parametrize(
        ("key", "value", "received"),
        [
            ("mask.ratio", 1.5, "mask_ratio=1.5"),
            ("mask.ratio", 0.99, r"mask_ratio=0\.99"),
            ("decoder.hidden_dim", 0, "decoder_hidden_dim=0"),
            ("model.variant", "CCT-2/3x2", "a stem"),
            ("model.name", "mixer", "model.variant='ViT-Lite-7/4'"),
            ("model.positions", "rotary", "positions='rotary'"),
            ("model.colour", "blue", "colour"),
            ("train.batch_size", 2.5, r"batch_size=2\.5"),
            ("train.batch_size", None, "batch_size': None"),
            ("serve.crop", 0.0, r"crop=0\.0"),
            ("augment.flip", 2.0, r"flip=2\.0"),
            ("data.clases", ("red",), "clases"),
            ("data.sampling", "balanced", "data.sampling='balanced'"),
            ("data.labels", "one", "data.labels='one'"),
        ],
    )
    def test_what_cannot_be_is_one_sentence(self, key, value, received):
        config = make_config()
        if key == "model.variant":
            del config.model.patch_size
        part, name = key.split(".")
        config[part][name] = value
        with pytest.raises(ValueError, match=received) as caught:
            masked_images.check(config)
        assert "\n" not in str(caught.value)

    def test_the_default_config_can_be(self):
        masked_images.check(masked_images.default_config())


class DataTest:
    def test_each_image_has_a_random_number_for_each_patch(self, workdir):
        data = masked_images.datasets(make_config(), workdir)
        batch = next(iter(data.train(3)))
        assert batch["random"].shape == (7, 16) and batch["images"].shape == (7, 8, 8, 1)
        first, again = (list(data.validation.as_numpy_iterator()) for _ in range(2))
        np.testing.assert_array_equal(first[1]["random"], again[1]["random"])
        assert data.batches_per_epoch == 1266 / 7 and "class_names" in read_description(workdir)
        with pytest.raises(ValueError, match="at least the 8 replicas.*batch_size=7"):
            masked_images.datasets(make_config(), workdir, Shard(num_replicas=8))

    def test_a_dry_run_shows_what_is_seen(self, workdir, tmp_path):
        batches = masked_images.datasets(make_config(), workdir).train(0)
        picture = tmp_path / "a.png"
        said = masked_images.show_batch(batches, make_config(), workdir, str(picture))
        assert said.startswith("The first 7 images")
        with Image.open(picture) as drawn:
            assert drawn.size[0] > 300


class ObjectiveTest:
    def test_the_loss_is_that_of_the_hidden_patches_and_filling_counts_for_nothing(self, workdir):
        config, model = make_config(), masked_images.build(make_config(), workdir)
        random = np.random.default_rng(3)
        images = random.standard_normal((3, 8, 8, 1)).astype("float32")
        noise, labels = random.random((3, 16)).astype("float32"), np.array([0, 0, -1], "int32")
        batch = {"images": images, "random": noise, "labels": labels}
        batch = {name: tf.constant(value) for name, value in batch.items()}
        total, count = masked_images.loss(model, batch, config)
        hidden = np.argsort(np.argsort(noise)) >= 4  # of 16, three quarters of which are hidden
        np.testing.assert_array_equal(hidden_patches(order_of(batch), 4), hidden)
        patches = images.reshape(3, 4, 2, 4, 2).transpose(0, 1, 3, 2, 4).reshape(3, 16, 4)
        deviation = np.sqrt(patches.var(axis=-1, ddof=1, keepdims=True) + 1e-6)
        targets = (patches - patches.mean(axis=-1, keepdims=True)) / deviation
        errors = (model(images, order=np.argsort(noise)) - targets) ** 2
        expected = np.array([np.mean(e[h]) for e, h in zip(errors, hidden, strict=True)])
        assert float(count) == 3
        np.testing.assert_allclose(total, expected.sum(), rtol=1e-5)
        found, real = masked_images.metrics(model, batch, config)["loss"]
        assert float(real) == 2
        np.testing.assert_allclose(found, expected[:2].sum(), rtol=1e-5)


class EvaluationTest:
    def test_a_split_has_the_same_loss_each_time_and_in_batches_of_any_size(self, module):
        found = masked_images.evaluate(module, make_config(), "validation")
        config = make_config(**{"serve.batch_size": 178})
        images = read_images(config.data, "validation")
        (batch,) = evaluation_batches(images, config, module.description)
        losses = module.autoencoder.image_losses(batch["images"], order=order_of(batch)).numpy()
        rows = [row["loss"] for row in found.predictions]
        np.testing.assert_allclose(rows, losses, rtol=1e-4)
        assert found.scores == {"loss": pytest.approx(losses.mean(), rel=1e-5), "images": 178}
        assert f"| 100 | {max(rows):.4f} |" in found.table
        (figure,) = found.figures.values()
        assert [axes.get_title() for axes in figure.axes[1:3]] == ["what is seen", "reconstruction"]

    def test_hidden_patches_are_gray_and_levels_come_back(self):
        pixels = np.random.default_rng(3).integers(0, 256, (2, 4, 6, 3)).astype("uint8")
        mask = np.array([[[1, 0, 0], [0, 0, 1]], [[0, 0, 0], [1, 1, 0]]], bool)
        hidden = hide(pixels, mask)
        assert (hidden[0, :2, :2] == 128).all() and (hidden[1, 2:, :4] == 128).all()
        np.testing.assert_array_equal(hidden[0, :2, 2:], pixels[0, :2, 2:])
        mean, deviation = [100.0, 110.0, 120.0], [50.0, 60.0, 70.0]
        np.testing.assert_array_equal(
            to_levels((pixels - mean) / deviation, mean, deviation), pixels
        )


class AutoencoderTest:
    def test_every_image_is_reconstructed_behind_the_same_mask(self, module):
        images = read_images(make_config().data, "validation").pixels[:5]
        answer = {name: x.numpy() for name, x in module.fill(tf.constant(images)).items()}
        assert answer["mask"].shape == (5, 4, 4) and (answer["mask"] == answer["mask"][:1]).all()
        assert answer["mask"].sum() == 5 * 12
        seen = ~answer["mask"].repeat(2, 1).repeat(2, 2)
        np.testing.assert_array_equal(answer["reconstruction"][seen], images[seen])
        one = module.fill(tf.constant(images[3:4]))["reconstruction"][0].numpy()
        assert np.abs(one.astype(int) - answer["reconstruction"][3]).max() <= 1
        names = {"serving_default", "reconstruct", "embed", "attention", "decode"}
        assert {*names, *(f"{name}_pixels" for name in names - {"decode"})} == {
            *module.signatures()
        }

    def test_the_card_says_what_becomes_of_an_image(self, workdir):
        card = masked_images.card(make_config(), workdir)
        assert "75% of the patches" in card["Training"]
        assert card["Input"] == describe_input(read_description(workdir), (8, 8), 1.0)
        assert card["Input"].startswith("An image file, decoded to gray.")


@pytest.mark.integration
class ProgramsTest:
    def test_a_run_is_scored_and_exported_and_a_classification_begins_with_it(self, tmp_path):
        changes = {f"model.{key}": value for key, value in MODEL.items()}
        changes |= {"train.validate_every": 3, "train.checkpoint_every": 3, "train.batch_size": 64}
        changes["augment.min_area"] = 1.0
        of_task = changes | {f"decoder.{key}": value for key, value in DECODER.items()}

        def train(config, workdir, **flags):
            flags = [f"--config.{key}={value}" for key, value in flags.items()]
            return ["train", f"--config={config}", f"--workdir={workdir}", *flags]

        first, second = tmp_path / "first", tmp_path / "second"
        start = {"start.workdir": first, "train.steps": 3, "model.positions": "sinusoidal_mae"}
        done = programs.run(
            train("demo_mae", first, **of_task, **{"train.steps": 3}),
            ["evaluate", f"--workdir={first}", f"--output={tmp_path / 'losses.txt'}"],
            ["export", f"--workdir={first}"],
            train("demo_digits", second, **changes, **start, **{"model.variant": "ViT-Lite-6/4"}),
        )
        codes = [program.returncode for program in done]
        assert codes == [0] * 4, [program.stderr[-2000:] for program in done]
        scores = json.loads((first / "evaluation-test.json").read_text())
        lines = (tmp_path / "losses.txt").read_text().split()
        assert len(lines) == scores["images"] == 353
        assert np.mean([float(x) for x in lines]) == pytest.approx(scores["loss"], rel=1e-4)
        pictures = [path.name for path in first.glob("evaluation-test-*.png")]
        assert pictures == ["evaluation-test-reconstructions.png"]
        config = read_config(first)
        model = load_model(masked_images.build, config, str(first), "last")

        def build_encoder(config, workdir):
            encoder = make_encoder(config)
            encoder.build((None, 8, 8, 1))
            return encoder

        encoder = load_model(build_encoder, config, str(first), "last")
        for variable, other in zip(encoder.variables, model.variables, strict=False):
            np.testing.assert_array_equal(variable, other)
        exported = tf.saved_model.load(str(first / "export" / "1"))
        image = tf.io.encode_png(read_images(config.data, "test").pixels[0])[None]
        features = exported.signatures["embed"](image=image)["features"]
        card = (first / "export" / "1" / "README.md").read_text()
        assert "a vector of 12 numbers" in card and " of 255 levels" in card
        filled = exported.signatures["reconstruct"](image=image)
        module = masked_images.serving(model, config, str(first))
        again = module.fill(module.decode(image)["pixels"])
        levels = [x["reconstruction"].numpy().astype(int) for x in (filled, again)]
        assert np.abs(levels[0] - levels[1]).max() <= 1
        expected = module.embed_pixels(module.decode(image)["pixels"])["features"]
        np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
