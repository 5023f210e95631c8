"""What every test shares: quiet TensorFlow, three logical CPU devices, and fixed seeds."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# XLA works as always, but spares the machine code the last optimisations, and writes it the older
# way, which compiles faster: half of its time.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)

import keras
import pytest

from tests import ROOT
from tests.backend import BACKEND, recording, tf, torch

if tf:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 3)
if torch:
    # Tensors of a few numbers: threads wait longer for each other than one of them computes.
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeds():
    """Starts every test from the same random state."""
    keras.utils.set_random_seed(2017)


@pytest.fixture(autouse=True)
def inference():
    """Lets torch hand its results to NumPy as the other backends do, outside of training."""
    with recording(False):
        yield


def pytest_collection_finish():
    """Spares what is alive now from being looked through at each collection of garbage."""
    gc.collect()
    gc.freeze()


def pytest_configure(config):
    """Lets NumPy read tensors of torch, which does not know how NumPy 2 asks for them."""
    if BACKEND == "torch":
        for what in (
            "__array__ implementation doesn't accept a copy",
            "__array_wrap__ must accept",
        ):
            config.addinivalue_line("filterwarnings", f"ignore:{what}:DeprecationWarning")


def pytest_collection_modifyitems(config, items):
    """Leaves out what needs TensorFlow where another backend runs, and begins with the slowest."""
    if tf is None:
        needing = [item for item in items if item.get_closest_marker("needs_tensorflow")]
        config.hook.pytest_deselected(items=needing)
        items[:] = [item for item in items if item not in needing]
    longest = ["docs", "layers/conformance", "training/loop", "training/trainer", "backends"]
    longest += ["training/soak", "distribution/workers", "serving/serve"]
    rank = {ROOT / "tests" / f"{name}_test.py": index for index, name in enumerate(longest)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))
