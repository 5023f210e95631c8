"""One process alone, and two that train together: all hear the chief, and compute the same.

Each of the two runs `python -m tests.distribution.workers_test FOLDER`, and leaves its results in
the folder.
"""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from pipelines.data.shards import Shard
from pipelines.distribution import local_workers, strategies
from pipelines.distribution.workers import BLOCK, Workers
from tests import ROOT
from tests.training.token_task import (
    ONE_DEVICE,
    VOCABULARY,
    Overflowing,
    TransformerTask,
    as_dataset,
    draw_batch,
    draw_overflow,
    make_trainer,
    step,
    take_rows,
    two_replicas,
)

COUNT = 2
STEPS = 20
TEXT = "¿Dos, 二つ, 🙂? " * (BLOCK // 7)  # Of several blocks, the last of which is not full.
VALUES = [TEXT, "", None, {"a": [1, 2.5, {"ä": True}]}, 2**53 + 1, float("inf")]
EXTREMES = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -3e38], np.float32)


def draw_arrays(index):
    """Draws for each process arrays of other numbers."""
    random = np.random.default_rng(index)
    return {
        "numbers": random.normal(size=(3, 5, 7)).astype(np.float32),
        "integers": random.integers(-(2**63), 2**63 - 1, 1009),
        "a number": np.array(2.5 + index, np.float32),
        "an integer": np.array(2**62 + 7 * index),
        "extremes": EXTREMES * (-1) ** index,
        "bytes": random.integers(0, 256, 11, np.uint8),
        "nothing": np.zeros((0, 3), np.float16),
        "bits": random.integers(0, 2**32, 1009, np.uint32).view(np.float32),
    }


def train(trainer):
    """Takes 20 steps and validates; returns what was measured."""
    shard = trainer.workers.shard
    batches = [take_rows(draw_batch(number, rows=7), shard) for number in range(STEPS)]
    iterator, losses, items = iter(as_dataset(batches)), [], []
    for _ in batches:
        found = trainer.steps(iterator, tf.constant(1))
        losses.append(float(found.loss / found.items))
        items.append(float(found.items))
    metrics = trainer.validate(as_dataset([draw_batch(1000, rows=5)]))
    own_items = [int(np.count_nonzero(batch["labels"])) for batch in batches]
    return {"losses": losses, "items": items, "own_items": own_items, "metrics": metrics}


def overflow(trainer):
    """Takes a step, one that overflows in the last process alone, and another one.

    Returns:
        Whether it is this process that overflows, and for each step the loss, the scale after it,
        and the names of all arrays that it changed.
    """
    good, bad = (take_rows(batch, trainer.workers.shard) for batch in draw_overflow(COUNT - 1))
    found = {"is_here": bool((bad["source"] == VOCABULARY - 1).any()), "steps": []}
    before = trainer.arrays()
    for batch in (good, bad, good):
        loss, after = step(trainer, batch)[0], trainer.arrays()
        changed = [name for name in after if not np.array_equal(after[name], before[name])]
        found["steps"].append([loss, float(after["loss_scale/value"]), changed])
        before = after
    return found


def error_of(work):
    try:
        work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def take_part(folder):
    """Does in each of several processes what is to be tested."""
    local_workers.follow_parent()
    workers = Workers(strategies.make("multiworker"))
    found = {
        "shard": dataclasses.astuple(workers.shard),
        "is_chief": workers.is_chief,
        "called": [],
    }

    def say(value):
        found["called"].append(workers.index)
        return value if workers.is_chief else "of another"

    found["values"] = [workers.from_chief(lambda value=value: say(value)) for value in VALUES]

    def fail(kind):
        raise kind(f"Process {workers.index} expected «ü».")

    kinds = (ValueError, OSError)
    found["errors"] = [error_of(lambda k=k: workers.from_chief(lambda: fail(k))) for k in kinds]
    with workers.folder(str(folder / "run")) as path:
        (Path(path) / f"{workers.index}").touch()
        found["folder"] = path
    found["is_left"] = os.path.isdir(path)
    arrays = draw_arrays(workers.index)
    arrays = dict(zip(arrays, workers.arrays_from_chief(list(arrays.values())), strict=True))
    trainer = make_trainer(TransformerTask(), workers.strategy, seed=3 + workers.index)
    trainer.from_chief()
    found |= train(trainer)
    half = make_trainer(Overflowing(), workers.strategy, precision="mixed_float16", ema=0.9)
    found["overflow"] = overflow(half)
    half = {f"half/{name}": array for name, array in half.arrays().items()}
    np.savez(folder / f"{workers.index}.npz", **arrays, **trainer.arrays(), **half)
    (folder / f"{workers.index}.json").write_text(json.dumps(found))
    if workers.is_chief:

        def wait():
            with workers.explained_losses():
                while True:
                    workers.from_chief(int)

        (folder / "lost.txt").write_text(error_of(wait))
    os._exit(0)  # TensorFlow would wait for the other one.


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Their folder, what each of two processes found, their arrays, and one device's training."""
    folder = tmp_path_factory.mktemp("both")
    (folder / "run").mkdir()
    command = [sys.executable, "-m", "tests.distribution.workers_test", str(folder)]
    program = "import sys\nfrom pipelines.distribution import local_workers\n"
    program += f"sys.exit(local_workers.run({command}, {COUNT}))"
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) as starter:
        trainer = make_trainer(TransformerTask())
        alone = train(trainer), trainer.arrays()
        assert starter.wait() == 0
    found = [json.loads((folder / f"{index}.json").read_text()) for index in range(COUNT)]
    arrays = [dict(np.load(folder / f"{index}.npz")) for index in range(COUNT)]
    return folder, found, arrays, alone


@pytest.mark.integration
class TwoTest:
    """Two processes, which have nothing in common but the network."""

    def test_each_knows_its_part(self, both):
        _, found, _, _ = both
        assert [one["shard"] for one in found] == [[0, 2, 2], [1, 2, 2]]
        assert [one["is_chief"] for one in found] == [True, False]

    def test_all_get_what_the_chief_alone_has_made(self, both):
        _, found, _, _ = both
        assert [one["values"] for one in found] == [VALUES] * 2
        assert [one["called"] for one in found] == [[0] * len(VALUES), []]

    def test_an_error_of_the_chief_is_raised_in_all(self, both):
        _, found, _, _ = both
        assert [one["errors"] for one in found] == [["ValueError: Process 0 expected «ü»."] * 2] * 2

    def test_only_the_chief_sees_the_folder_of_the_run(self, both):
        folder, (chief, other), _, _ = both
        assert chief["folder"] == str(folder / "run") != other["folder"]
        assert (chief["is_left"], other["is_left"]) == (True, False)
        assert [path.name for path in (folder / "run").iterdir()] == ["0"]

    @pytest.mark.parametrize("name", draw_arrays(0))
    def test_all_get_every_bit_of_the_chiefs_arrays(self, both, name):
        expected = draw_arrays(0)[name]
        for arrays in both[2]:
            assert (arrays[name].dtype, arrays[name].shape) == (expected.dtype, expected.shape)
            assert arrays[name].tobytes() == expected.tobytes()

    def test_they_train_as_one_device_does(self, both):
        _, found, arrays, (alone, weights) = both
        tokens = zip(*(one["own_items"] for one in found), strict=True)
        assert sum(one != other for one, other in tokens) > STEPS / 2
        for one, named in zip(found, arrays, strict=True):
            assert one["items"] == alone["items"]
            np.testing.assert_allclose(one["losses"], alone["losses"], rtol=1e-6)
            assert one["metrics"] == pytest.approx(alone["metrics"], rel=1e-6)
            for name, expected in weights.items():
                np.testing.assert_allclose(named[name], expected, rtol=1e-5, atol=1e-6)

    def test_an_overflow_in_one_skips_the_step_and_halves_the_scale_in_both(self, both):
        _, found, _, _ = both
        assert [one["overflow"]["is_here"] for one in found] == [False, True]
        for one in found:
            (_, scale, first), (loss, halved, skipped), (_, last, again) = one["overflow"]["steps"]
            assert np.isfinite(loss) and halved == last == scale / 2
            assert set(skipped) == {"loss_scale/value", "loss_scale/good_steps"}
            for changed in (first, again):
                assert {"model/0000", "optimizer/0000", "ema/model/0000"} <= set(changed)

    def test_both_hold_the_same_bits(self, both):
        _, found, (chief, other), (_, weights) = both
        assert found[0]["losses"] == found[1]["losses"]
        assert found[0]["overflow"]["steps"] == found[1]["overflow"]["steps"]
        halves = {name for name in chief if name.startswith("half/")}
        assert halves
        for name in halves | set(weights):
            assert chief[name].tobytes() == other[name].tobytes(), name

    def test_one_that_is_left_alone_says_so_in_a_sentence(self, both):
        lost = (both[0] / "lost.txt").read_text()
        assert lost.startswith("ConnectionError: Another of the 2 processes has ended; start all")


class OneTest:
    """A process that trains alone asks nobody."""

    @pytest.mark.parametrize("make_strategy", [lambda: ONE_DEVICE, two_replicas])
    def test_it_is_the_chief_of_itself(self, make_strategy):
        workers = Workers(make_strategy())
        replicas = workers.strategy.num_replicas_in_sync
        assert workers.is_chief and workers.local_replicas == replicas
        assert workers.shard == Shard(index=0, count=1, num_replicas=replicas)

    def test_everything_is_passed_through(self, tmp_path):
        workers, made = Workers(ONE_DEVICE), object()
        assert workers.from_chief(lambda: made) is made
        for error in (ValueError("of the user"), OSError("of the disk"), KeyError("of ours")):

            def fail(error=error):
                raise error

            with pytest.raises(type(error)) as caught:
                workers.from_chief(fail)
            assert caught.value is error
        array = np.array([-0.0])
        assert workers.arrays_from_chief([array])[0] is array
        with workers.folder(str(tmp_path)) as folder:
            assert folder == str(tmp_path)
        assert tmp_path.exists()

    def test_an_error_of_tensorflow_is_not_another_process_that_ended(self):
        with pytest.raises(tf.errors.InternalError), Workers(ONE_DEVICE).explained_losses():
            raise tf.errors.InternalError(None, None, "of this process")

    def test_the_first_replica_speaks_for_all(self):
        strategy = two_replicas()
        numbers = strategy.run(lambda: tf.distribute.get_replica_context().replica_id_in_sync_group)
        assert Workers(strategy).first(numbers) == 0
        assert Workers(ONE_DEVICE).first(7) == 7


if __name__ == "__main__":
    take_part(Path(sys.argv[1]))
