"""The contract of tasks, by a third one with metrics that are vectors and a teacher."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines.distribution.workers import Workers
from pipelines.runs.checkpoints import Checkpoints
from pipelines.runs.config import differences, write_config
from pipelines.training import loop, preparation
from pipelines.training.task import finish
from pipelines.training.trainer import Trainer
from tests import programs
from tests.training import colour_task
from tests.training.token_task import ONE_DEVICE, replicas

CONFIG = """
from tests.training import colour_task

def get_config():
    config = colour_task.default_config()
    config.data.update(folder={folder!r}, train="images.npz", validation="images.npz")
    config.data.test = "images.npz"
    config.train.update(steps=12, warmup_steps=5, learning_rate=0.01, steps_per_call=2)
    config.train.update(log_every=2, validate_every=4, checkpoint_every=3, best_metric="blue_loss")
    return config
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with images and a config."""
    folder = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(7).integers(0, 256, (31, 8, 8, 3), np.uint8)
    np.savez(folder / "images.npz", images=pixels, labels=np.arange(31) % 2)
    (folder / "colour.py").write_text(CONFIG.format(folder=str(folder)))
    (folder / "shape.json").write_text("[8, 8, 3]")
    return folder


def make_config(folder, **train):
    names = {}
    exec((folder / "colour.py").read_text(), names)
    config = names["get_config"]()
    config.train.update(train)
    return config


def make_trainer(folder, strategy=ONE_DEVICE):
    keras.utils.set_random_seed(11)
    config = make_config(folder)
    with strategy.scope():
        return Trainer(colour_task, config, colour_task.build(config, folder), strategy)


def draw_images(seed, rows=6):
    return np.random.default_rng(seed).random((rows, 8, 8, 3)).astype(np.float32)


def step(trainer, *batches):
    spec = {"images": tf.TensorSpec((None, 8, 8, 3))}
    named = [{"images": images} for images in batches]
    dataset = tf.data.Dataset.from_generator(lambda: named, output_signature=spec)
    return trainer.steps(iter(dataset), tf.constant(len(batches)))


def weights(trainer, name):
    return [variable.numpy() for variable in trainer.model.get_layer(name).weights]


class ResolveTest:
    def test_a_new_run_takes_what_the_task_chooses_and_a_run_that_resumes_what_it_has(
        self, tmp_path
    ):
        config = colour_task.default_config()
        config.data.update(folder="images", train="auto")
        with config.ignore_type():
            config.train.learning_rate = "auto"
        before, workers = config.to_json(), Workers(ONE_DEVICE)
        first = preparation.choose(colour_task, config, str(tmp_path), workers)
        changed = {"data.size": (None, [8, 8]), "train.learning_rate": ("auto", 0.06)}
        assert differences(config, first) == changed and config.to_json() == before
        write_config(tmp_path, first)
        config.data.folder, config.train.steps = "more_images", 7
        again = preparation.choose(colour_task, config, str(tmp_path), workers)
        assert again.train.learning_rate == 0.11  # Nothing was trained with the first choice.
        (tmp_path / "checkpoints" / "step-3").mkdir(parents=True)
        again = preparation.choose(colour_task, config, str(tmp_path), workers)
        assert differences(config, again) == changed


class AfterStepTest:
    def test_it_follows_each_update(self, folder):
        trainer = make_trainer(folder)
        expected = weights(trainer, "teacher")
        for seed in range(3):
            step(trainer, draw_images(seed))
            student = weights(trainer, "student")
            expected = [t + 0.25 * (s - t) for s, t in zip(student, expected, strict=True)]
            for found, value in zip(weights(trainer, "teacher"), expected, strict=True):
                np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-7)

    def test_a_step_that_is_skipped_does_not_call_it(self, folder):
        trainer = make_trainer(folder)
        step(trainer, draw_images(1))
        before, states = weights(trainer, "teacher"), weights(trainer, "student")
        assert np.isnan(step(trainer, draw_images(2) * np.float32(np.inf)).loss)
        for name, old in (("teacher", before), ("student", states)):
            assert all(map(np.array_equal, weights(trainer, name), old))

    def test_it_changes_the_copies_of_all_replicas_alike(self, folder):
        one, many = make_trainer(folder), make_trainer(folder, replicas(3))
        # Without dropout, which is another on each replica.
        for trainer in (one, many):
            trainer.model.get_layer("dropout").rate = 0.0
            step(trainer, *map(draw_images, range(4)))
        for expected, variable in zip(
            weights(one, "teacher"), many.model.get_layer("teacher").weights, strict=True
        ):
            first, *rest = many.strategy.experimental_local_results(variable.value)
            np.testing.assert_allclose(first, expected, rtol=1e-3, atol=1e-5)
            assert len(rest) == 2 and all(np.array_equal(first, part) for part in rest)


class MetricsTest:
    @pytest.mark.parametrize("strategy", [ONE_DEVICE, replicas(3)], ids=["one", "three"])
    def test_sums_of_any_shape_are_added_over_batches_and_replicas(self, folder, strategy):
        trainer, images = make_trainer(folder, strategy), draw_images(5, rows=10)
        found = trainer.validate(tf.data.Dataset.from_tensor_slices({"images": images}).batch(7))
        kernel, bias = weights(trainer, "teacher")
        errors = images.mean(axis=(1, 2)) - (images.reshape(10, -1) @ kernel + bias)
        expected = dict(zip(colour_task.METRICS[1:], (errors**2).mean(axis=0) ** 0.5, strict=True))
        expected["loss"] = (errors**2).mean(axis=0).sum()
        assert found == pytest.approx(expected, rel=1e-5)

    def test_a_pair_is_a_sum_and_a_count_where_the_task_does_not_say_otherwise(self):
        assert finish({"loss": (np.float64(7), np.float64(2))}) == {"loss": 3.5}


@pytest.mark.integration
class ProgramsTest:
    def test_programs_train_resume_evaluate_and_export_it(self, folder, tmp_path):
        run, train = tmp_path / "run", ["train", f"--config={folder}/colour.py"]
        commands = [
            [*train, f"--workdir={run}", "--config.train.steps=7"],
            [*train, f"--workdir={run}", "--allow_changes"],
            ["evaluate", f"--workdir={run}"],
            ["export", f"--workdir={run}"],
            [*train, f"--workdir={tmp_path / 'dry'}", "--dry_run"],
        ]
        done = programs.run(*(["tests.training.colour_task", *command] for command in commands))
        assert [program.returncode for program in done] == [0] * 5, done
        loop.train(colour_task, make_config(folder), str(tmp_path / "whole"))
        (whole, _), (stopped, _) = (
            Checkpoints(path / "checkpoints").load_newest() for path in (tmp_path / "whole", run)
        )
        assert whole.keys() == stopped.keys()
        assert all(np.array_equal(whole[name], stopped[name]) for name in whole)
        scores = json.loads(done[2].stdout.splitlines()[-1])
        assert scores["step"] == 12 and scores["error"] > 0
        pixels = np.load(folder / "images.npz")["images"][:5]
        loaded = tf.saved_model.load(str(run / "export" / "1")).signatures["serving_default"]
        teacher = [w for n, w in sorted(whole.items()) if n.startswith("model/")][-2:]
        expected = (pixels.reshape(5, -1) / 255) @ teacher[0] + teacher[1]
        found = loaded(image=pixels)["colour"]
        np.testing.assert_allclose(found, 255 * expected, rtol=1e-4, atol=1e-3)
        assert not (tmp_path / "dry").exists() and "Colours: [[" in done[4].stdout
