"""What every test shares: quiet TensorFlow, three logical CPU devices, and fixed seeds."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# XLA works as always, but spares the machine code the last optimisations: a third of its time.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import keras
import pytest

from tests import ROOT

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 3)


@pytest.fixture(autouse=True)
def seeds():
    """Starts every test from the same random state."""
    keras.utils.set_random_seed(2017)


def pytest_collection_modifyitems(items):
    """Begins with the files that take longest, so that no core waits for them in the end."""
    longest = ["docs", "layers/conformance", "training/loop", "training/trainer", "jax"]
    longest += ["training/soak", "distribution/workers", "serving/serve"]
    rank = {ROOT / "tests" / f"{name}_test.py": index for index, name in enumerate(longest)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))
