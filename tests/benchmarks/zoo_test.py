"""The benchmark of families of image models: plans, trainings by the program, and its records."""

import json
import subprocess
import sys

import pytest

from pipelines.benchmarks import zoo
from pipelines.configs import cifar10_zoo
from pipelines.images.models import make
from pipelines.tasks import classification

# Prepares a dataset that has the name, the shapes and the splits of CIFAR-10, and few images.
PREPARE = """
import sys, numpy as np, tensorflow as tf, tensorflow_datasets as tfds
f = tfds.features
image, label = f.Image(shape=(32, 32, 3)), f.ClassLabel(num_classes=10)
features = f.FeaturesDict({"image": image, "label": label})
random = np.random.default_rng(0)
def split(count):
    images = random.integers(0, 256, (count, 32, 32, 3)).astype("uint8")
    return tf.data.Dataset.from_tensor_slices({"image": images, "label": np.arange(count) % 10})
tfds.dataset_builders.store_as_tfds_dataset(
    name="cifar10", version="1.0.0", data_dir=sys.argv[1], features=features,
    split_datasets={"train": split(500), "test": split(20)}, disable_shuffling=True)
"""


@pytest.mark.integration
class MeasuredTest:
    def test_a_family_is_planned_once_trained_and_scored(self, tmp_path, monkeypatch):
        data = tmp_path / "tfds"
        subprocess.run([sys.executable, "-c", PREPARE, str(data)], check=True, capture_output=True)
        monkeypatch.setenv("KERASFORMER_DATA", str(tmp_path))
        plan = {"parameters": 7, "speed": 5, "steps": 2}  # As an earlier call has left it.
        folder = tmp_path / "ResNet-1-minutes"
        folder.mkdir()
        (folder / "plan.json").write_text(json.dumps(plan))
        records = list(zoo.measured(["ResNet"], 1.0, [1], str(tmp_path)))
        assert [record["value"] for record in records[:3]] == [7, 5, 2]
        assert records[3]["unit"] == "share of right" and 0 <= records[3]["value"] <= 1
        config = json.loads((folder / "1-percent" / "config.json").read_text())
        assert config["train"]["steps"] == 2 and config["model"]["variant"] == "ResNet-20"

    def test_a_program_that_fails_is_an_error(self, tmp_path, monkeypatch):
        monkeypatch.setenv("KERASFORMER_DATA", str(tmp_path / "absent"))
        with pytest.raises(ChildProcessError, match="apps.train .*ResNet"):
            zoo.train("ResNet", 2, 1, tmp_path / "run")


class PlanTest:
    @pytest.mark.parametrize(("minutes", "fewest", "most"), [(1e-9, 1, 1), (1e9, 16_695, 16_695)])
    def test_steps_are_at_least_one_and_at_most_those_of_the_config(self, minutes, fewest, most):
        config = cifar10_zoo.get_config("MLP-Mixer")
        config.train.batch_size = 3
        config.model.hidden_dim = 12
        plan = zoo.plan(config, minutes)
        assert fewest <= plan["steps"] <= most
        assert plan["speed"] > 0
        # By hand: patches of 4 x 4 x 3, four blocks of two MLPs and two norms, a norm and a head.
        tokens = 64 * 6 + 6 + 6 * 64 + 64
        channels = 12 * 256 + 256 + 256 * 12 + 12
        assert plan["parameters"] == 49 * 12 + 4 * (tokens + channels + 4 * 12) + 2 * 12 + 13 * 10


class ConfigTest:
    @pytest.mark.parametrize("family", cifar10_zoo.FAMILIES)
    def test_the_model_of_a_family_is_made(self, family):
        config = cifar10_zoo.get_config(family)
        config.train.precision = "float32"
        classification.check(config)
        assert make(config, num_classes=10).name == config.model.name

    def test_an_unknown_family_is_named(self):
        with pytest.raises(ValueError, match="cifar10_zoo: and one of .*received 'VGGG'"):
            cifar10_zoo.get_config("VGGG")
