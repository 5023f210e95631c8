"""The training loop and its step: the arithmetic against oracles, and runs that stop and go on."""

import itertools
import json
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from kerasformer.models import Seq2SeqTransformer
from kerasformer.schedules import InverseSquareRoot
from pipelines import training, translation
from pipelines.checkpoints import Checkpoints
from pipelines.trainer import Trainer

ROOT = Path(__file__).parents[1]
VOCABULARY = 17
IDS = tf.TensorSpec((None, None), tf.int32)
SPECS = {"source": IDS, "target": IDS, "labels": IDS}
ONE_DEVICE = tf.distribute.get_strategy()


def draw_batch(*seed, rows=6, length=7):
    """Draws token ids in rows of unequal lengths, and one row without labels."""
    random = np.random.default_rng(seed)
    source, labels = random.integers(4, VOCABULARY, (2, rows, length)).astype(np.int32)
    for ids in (source, labels):
        ids[np.arange(length) >= random.integers(1, length + 1, (rows, 1))] = 0
    labels[1] = 0
    target = np.concatenate([np.ones((rows, 1), np.int32), labels[:, :-1]], axis=1)
    return {"source": source, "target": target, "labels": labels}


class Digits:
    """A task for the loop: translation's losses, on token ids that a seed draws.

    Args:
        batches: int. Batches of an epoch.
        scores: the `bleu` of each validation in turn.
    """

    loss = staticmethod(translation.loss)
    metrics = staticmethod(translation.metrics)

    def __init__(self, batches=5, scores=()):
        self.batches, self.scores = batches, iter(scores)

    def prepare(self, config, workdir):
        pass

    def datasets(self, config, workdir, num_replicas):
        def train(epoch, first):
            assert 0 <= first <= self.batches
            numbers = range(epoch * self.batches + first, 10**6)
            return as_dataset(draw_batch(config.seed, number) for number in numbers)

        validation = as_dataset([draw_batch(config.seed, 10**6)])
        return training.Data(train, validation, self.batches, "tokens")

    def build(self, config, workdir):
        """Builds a model of few operations: the bag of the source and the token before."""
        policy = {"dtype": config.train.precision}
        source, target = (
            keras.Input((None,), name=name, dtype="int32") for name in ("source", "target")
        )
        embedding = keras.layers.Embedding(VOCABULARY, 5, **policy)
        bag = ops.sum(embedding(source) * ops.cast(source != 0, "float32")[..., None], 1, True)
        x = keras.layers.Dropout(config.model.dropout, **policy)(embedding(target) + bag)
        logits = keras.layers.Dense(VOCABULARY, **policy)(x)
        return keras.Model({"source": source, "target": target}, logits)

    def validation_score(self, model, config, workdir):
        return {"bleu": next(self.scores)}


class TransformedDigits(Digits):
    """The same task for a Transformer."""

    def build(self, config, workdir):
        sizes = {"num_layers": 1, "hidden_dim": 8, "num_heads": 2, "intermediate_dim": 11}
        options = {"dropout": config.model.dropout, "dtype": config.train.precision}
        model = Seq2SeqTransformer(VOCABULARY, **sizes, **options)
        model.build()
        return model


def as_dataset(batches):
    return tf.data.Dataset.from_generator(lambda: batches, output_signature=SPECS)


def make_config(dropout=0.3, **train):
    config = translation.default_config()
    config.model = {"dropout": dropout}
    small = {"steps": 12, "warmup_steps": 5, "learning_rate": 0.03, "ema": 0.9}
    often = {"steps_per_call": 2, "log_every": 2, "validate_every": 4, "checkpoint_every": 3}
    config.train.update(small | often | train)
    return config


def run(workdir, task=None, strategy=None, **changes):
    return training.train(task or Digits(), make_config(**changes), str(workdir), strategy)


def steps_of(folder):
    return [int(path.name.removeprefix("step-")) for path in Checkpoints(folder).paths()]


def records(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def logged(workdir, name):
    return {record["step"]: record[name] for record in records(workdir) if name in record}


def assert_same_end(workdir, other):
    """Asserts that two runs hold the same weights, moments, averages and random states."""
    (arrays, state), (others, other_state) = (
        Checkpoints(folder / "checkpoints").load_newest() for folder in (workdir, other)
    )
    assert state["step"] == other_state["step"]
    assert arrays.keys() == others.keys()
    for name, array in arrays.items():
        assert np.array_equal(array, others[name]), name


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 12 steps that nothing interrupted, with dropout and a moving average."""
    workdir = tmp_path_factory.mktemp("whole")
    run(workdir)
    return workdir


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("stopped")
    run(workdir, steps=7)
    return workdir


@pytest.fixture
def stopped(stopped_once, tmp_path):
    """The same run, stopped after 7 steps."""
    return shutil.copytree(stopped_once, tmp_path / "run")


class Crash(Exception):
    pass


class CrashingDigits(Digits):
    def metrics(self, model, batch, config):
        raise Crash


class GoingOnTest:
    def test_a_stopped_run_ends_as_one_that_was_not(self, whole, stopped):
        assert steps_of(stopped / "checkpoints") == [3, 6, 7]
        summary = run(stopped)
        assert summary["steps"] == 12
        assert_same_end(stopped, whole)
        for name in ("validation_loss", "learning_rate"):
            expected = logged(whole, name)
            assert expected.items() <= logged(stopped, name).items()

    def test_a_crashed_run_ends_as_one_that_did_not_and_logs_no_step_twice(self, whole, tmp_path):
        with pytest.raises(Crash):
            run(tmp_path, CrashingDigits(), validate_every=11)
        assert steps_of(tmp_path / "checkpoints") == [3, 6, 9]
        assert list(logged(tmp_path, "loss"))[-1] == 10
        run(tmp_path)
        assert_same_end(tmp_path, whole)
        steps = [record["step"] for record in records(tmp_path)]
        assert steps == sorted(set(steps)) and steps[-1] == 12

    def test_a_damaged_checkpoint_costs_its_steps_and_nothing_else(self, whole, stopped):
        os.truncate(stopped / "checkpoints" / "step-00000007" / "arrays.npz", 1009)
        run(stopped)
        assert_same_end(stopped, whole)
        assert 7 not in logged(stopped, "loss")

    def test_a_finished_run_has_nothing_left_to_do(self, whole, tmp_path):
        workdir = shutil.copytree(whole, tmp_path / "run")
        summary = run(workdir)
        losses = logged(whole, "validation_loss")
        assert summary["steps"] == 12
        assert summary["validation_loss"] == min(losses.values())
        assert losses[summary["best_step"]] == summary["validation_loss"]
        assert records(workdir) == records(whole)

    @pytest.mark.parametrize("batches", [2, 11])
    def test_the_batches_may_become_other_ones(self, stopped, batches):
        assert run(stopped, Digits(batches), steps=9)["steps"] == 9

    def test_another_model_is_refused_and_everything_stays(self, stopped):
        before = sorted(stopped.rglob("*"))
        with pytest.raises(ValueError, match="model.dropout=0.3, not 0.2"):
            run(stopped, dropout=0.2)
        assert sorted(stopped.rglob("*")) == before


# A translator of a few words, with dropout, that saves a checkpoint every third step.
SMALL_CONFIG = """
from pipelines import translation

def get_config():
    config = translation.default_config()
    config.data.update(format="tsv", folder=FOLDER, columns=(0, 1))
    config.data.update({split: "pairs.tsv" for split in ("train", "validation", "test")})
    config.tokenizer.update(vocabulary_size=23, byte_fallback=False)
    config.model.update(num_layers=1, hidden_dim=8, num_heads=2, intermediate_dim=11)
    config.train.update(steps=300, batch_tokens=101, warmup_steps=11, ema=0.9, steps_per_call=3)
    config.train.update(log_every=5, validate_every=50, checkpoint_every=3)
    return config
"""


class KilledTest:
    """The program itself, killed at a moment that nobody chose."""

    def kill_after_its_first_checkpoint(self, command, folder):
        program = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        while program.poll() is None and not steps_of(folder):
            time.sleep(0.01)
        time.sleep(random.uniform(0.0, 0.5))
        program.kill()
        program.communicate()
        assert program.returncode == -signal.SIGKILL

    def test_the_same_command_goes_on_to_the_same_end(self, tmp_path):
        words = [("eins", "one"), ("zwei", "two"), ("drei", "three"), ("vier", "four")]
        lines = [
            "\t".join(map(" ".join, zip(*pair, strict=True)))
            for pair in itertools.product(words, repeat=3)
        ]
        (tmp_path / "pairs.tsv").write_text("\n".join(lines))
        path = tmp_path / "small.py"
        path.write_text(SMALL_CONFIG.replace("FOLDER", repr(str(tmp_path))))
        killed, whole = tmp_path / "killed", tmp_path / "whole"
        command = [sys.executable, "-m", "apps.train", f"--config={path}", f"--workdir={killed}"]
        self.kill_after_its_first_checkpoint(command, killed / "checkpoints")
        reached = steps_of(killed / "checkpoints")
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert f"Going on from step {reached[-1]} " in done.stdout
        assert json.loads(done.stdout.splitlines()[-1])["steps"] == 300
        training.train(translation, runpy.run_path(str(path))["get_config"](), str(whole))
        assert_same_end(killed, whole)
        for name in ("loss", "validation_loss"):
            assert list(logged(killed, name).items())[-1] == list(logged(whole, name).items())[-1]
        steps = [record["step"] for record in records(killed)]
        assert steps == sorted(set(steps))
        assert not list(killed.rglob(".tmp*"))


class LoopTest:
    def test_checkpoints_and_validations_come_at_their_steps_and_at_the_end(self, whole):
        assert steps_of(whole / "checkpoints") == [3, 6, 9, 12]
        assert list(logged(whole, "validation_loss")) == [4, 8, 12]
        assert list(logged(whole, "validation_accuracy")) == [4, 8, 12]
        assert set(logged(whole, "loss")) == {2, 3, 4, 6, 8, 9, 10, 12}

    def test_the_folder_holds_config_log_curves_and_events(self, whole):
        names = {path.name for path in whole.iterdir()}
        assert {"config.json", "metrics.jsonl", "curves.png", "checkpoints"} < names
        assert any(name.startswith("events.") for name in names)
        assert not list(whole.rglob(".tmp*"))

    def test_the_learning_rate_follows_its_schedule(self, whole):
        schedule = InverseSquareRoot(0.03, 5)
        for step, rate in logged(whole, "learning_rate").items():
            assert rate == pytest.approx(float(schedule(step)), rel=1e-6)

    def test_the_logged_loss_is_the_mean_over_the_tokens_since_the_last_record(self, tmp_path):
        run(tmp_path, steps=3, learning_rate=1e-30, dropout=0.0, label_smoothing=0.0)
        trainer = make_trainer(seed=1, label_smoothing=0.0)
        batches = [draw_batch(1, number) for number in range(3)]
        expected = {2: mean_loss(trainer, *batches[:2]), 3: mean_loss(trainer, batches[2])}
        assert logged(tmp_path, "loss") == pytest.approx(expected, rel=1e-5)
        validation = mean_loss(trainer, draw_batch(1, 10**6))
        assert logged(tmp_path, "validation_loss") == pytest.approx({3: validation}, rel=1e-5)

    def test_the_best_checkpoint_is_kept_and_no_progress_ends_the_run(self, tmp_path):
        task = Digits(scores=[5.0, 7.0, 7.0, 6.0, 99.0])
        often = {"validate_every": 2, "checkpoint_every": 2, "best_metric": "bleu"}
        summary = run(tmp_path, task, patience=2, **often)
        assert (summary["steps"], summary["best_step"], summary["validation_bleu"]) == (8, 4, 7.0)
        assert list(logged(tmp_path, "validation_bleu").values()) == [5.0, 7.0, 7.0, 6.0]
        folder = tmp_path / "checkpoints"
        assert steps_of(folder / "best") == [4]
        best, same = (
            Checkpoints(path).load(path / "step-00000004")[0] for path in (folder / "best", folder)
        )
        assert all(np.array_equal(best[name], same[name]) for name in same)
        # The same command has nothing to do; with more patience the run goes on.
        assert run(tmp_path, task, patience=2, **often)["steps"] == 8
        summary = run(tmp_path, task, patience=3, **often, steps=10)
        assert (summary["steps"], summary["best_step"], summary["validation_bleu"]) == (
            10,
            10,
            99.0,
        )
        assert steps_of(folder / "best") == [10]

    def test_a_loss_that_is_not_finite_ends_the_run_and_costs_no_checkpoint(self, whole, stopped):
        before = {path: path.stat().st_mtime_ns for path in stopped.glob("checkpoints/**/*")}
        with pytest.raises(FloatingPointError, match="between steps 8 and 9.*checkpoints is from"):
            run(stopped, learning_rate=1e38)
        assert {p: p.stat().st_mtime_ns for p in stopped.glob("checkpoints/**/*")} == before
        run(stopped)
        assert_same_end(stopped, whole)


class RefusalTest:
    @pytest.mark.parametrize(
        "changes",
        [
            {"schedule": "staircase"},
            {"precision": "float8"},
            {"steps": 0},
            {"steps_per_call": 0},
            {"log_every": 0},
            {"validate_every": 0},
            {"checkpoint_every": -1},
            {"keep_checkpoints": 0},
            {"schedule": "cosine", "warmup_steps": 12},
            {"best_metric": "rouge"},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_a_config_that_cannot_be_is_one_sentence(self, tmp_path, changes):
        key, value = list(changes.items())[-1]
        with pytest.raises(ValueError, match=f"{key}={value!r}") as caught:
            run(tmp_path / "run", Digits(scores=[5.0]), **{"steps": 2, **changes})
        assert "\n" not in str(caught.value)

    def test_a_compiled_step_on_several_replicas_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="train.jit_compile=True with 2"):
            run(tmp_path, strategy=two_replicas(), jit_compile=True)


def two_replicas():
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def make_trainer(task=None, strategy=ONE_DEVICE, seed=3, **changes):
    """Makes a trainer without dropout; equal seeds give equal weights."""
    # Adam divides noise by noise where a gradient is 0; this epsilon lets sums be compared.
    config = make_config(**{"dropout": 0.0, "epsilon": 1e-3, **changes})
    keras.utils.set_random_seed(seed)
    task = task or Digits()
    with strategy.scope():
        return Trainer(task, config, task.build(config, None), strategy)


def step(trainer, *batches):
    """Takes a step on each batch; returns the sums of losses and items, and the last norm."""
    found = trainer.steps(iter(as_dataset(list(batches))), tf.constant(len(batches)))
    return [float(x) for x in found]


def weights(trainer):
    return [variable.numpy() for variable in trainer.model.trainable_variables]


def mean_loss(trainer, *batches):
    sums = [trainer.task.loss(trainer.model, batch, trainer.config) for batch in batches]
    return float(sum(loss for loss, _ in sums) / sum(items for _, items in sums))


def gradients_of(trainer, batch):
    """Differentiates the mean loss of a batch, as the oracle."""
    with tf.GradientTape() as tape:
        loss, items = trainer.task.loss(trainer.model, batch, trainer.config)
        loss = loss / items
    found = tape.gradient(loss, trainer.model.trainable_variables)
    return [tf.convert_to_tensor(gradient).numpy() for gradient in found]


def applied(trainer):
    """Reads from Adam's first moments the gradients of the first step."""
    moments = [v for v in trainer.optimizer.variables if v.path.endswith("momentum")]
    assert len(moments) == len(trainer.model.trainable_variables)
    return [moment.numpy() / 0.1 for moment in moments]


def assert_close(first, second, **tolerance):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one, other, **({"rtol": 1e-4, "atol": 1e-6} | tolerance))


def with_padding(batch):
    """Appends rows of padding and columns of padding."""
    return {name: np.pad(ids, ((0, 5), (0, 3))) for name, ids in batch.items()}


BATCH = draw_batch(3)


class StepTest:
    def test_the_gradient_is_that_of_the_mean_over_real_tokens(self):
        trainer = make_trainer(clip_norm=0.0)
        expected, loss = gradients_of(trainer, BATCH), mean_loss(trainer, BATCH)
        loss_sum, items, norm = step(trainer, BATCH)
        assert items == np.count_nonzero(BATCH["labels"])
        assert loss_sum / items == pytest.approx(loss, rel=1e-5)
        assert norm == pytest.approx(np.sqrt(sum((g**2).sum() for g in expected)), rel=1e-4)
        assert_close(applied(trainer), expected)

    def test_rows_and_columns_of_padding_change_nothing(self):
        trainer, padded = make_trainer(), make_trainer()
        found, expected = step(padded, with_padding(BATCH)), step(trainer, BATCH)
        assert found == pytest.approx(expected, rel=1e-5)
        assert_close(weights(padded), weights(trainer))

    def test_a_batch_of_padding_alone_moves_nothing(self):
        trainer = make_trainer(clip_norm=1.0)
        before = weights(trainer)
        nothing = {name: np.zeros_like(ids) for name, ids in BATCH.items()}
        assert step(trainer, nothing) == [0.0, 0.0, 0.0]
        assert_close(weights(trainer), before, rtol=0, atol=0)

    @pytest.mark.parametrize("share", [0.5, 2.0])
    def test_a_gradient_longer_than_clip_norm_is_shortened_to_it(self, share):
        expected = gradients_of(make_trainer(), BATCH)
        norm = float(np.sqrt(sum((g**2).sum() for g in expected)))
        trainer = make_trainer(clip_norm=share * norm)
        assert step(trainer, BATCH)[2] == pytest.approx(norm, rel=1e-4)  # what it was before
        assert_close(applied(trainer), [min(share, 1.0) * gradient for gradient in expected])

    def test_the_first_step_of_adam_is_as_long_as_the_learning_rate(self):
        trainer = make_trainer(schedule="constant", learning_rate=0.011, epsilon=1e-9)
        before, gradients = weights(trainer), gradients_of(trainer, BATCH)
        step(trainer, BATCH)
        for old, new, gradient in zip(before, weights(trainer), gradients, strict=True):
            moved, clear = new - old, np.abs(gradient) > 1e-4
            np.testing.assert_allclose(moved[clear], -0.011 * np.sign(gradient[clear]), rtol=1e-2)

    def test_the_moving_average_follows_its_recurrence(self):
        trainer = make_trainer(ema=0.7)
        expected = weights(trainer)
        for number in range(3):
            step(trainer, draw_batch(number))
            expected = [a + 0.3 * (w - a) for a, w in zip(expected, weights(trainer), strict=True)]
        assert_close([variable.numpy() for variable in trainer.ema], expected)

    def test_a_validation_uses_the_average_and_gives_the_weights_back(self):
        trainer = make_trainer(ema=0.7)
        step(trainer, BATCH, draw_batch(5))
        before = weights(trainer)
        loss = trainer.validate(as_dataset([BATCH, draw_batch(7)]))["loss"]
        assert_close(weights(trainer), before, rtol=0, atol=0)
        plain = make_trainer(ema=0.0, label_smoothing=0.0)
        for variable, average in zip(plain.model.trainable_variables, trainer.ema, strict=True):
            variable.assign(average.numpy())
        assert loss == pytest.approx(mean_loss(plain, BATCH, draw_batch(7)), rel=1e-5)

    def test_what_is_not_finite_reaches_neither_moments_nor_counts_as_a_loss(self):
        trainer = make_trainer()
        trainer.model.trainable_variables[-1].assign_add(
            np.float32(np.inf) + 0 * weights(trainer)[-1]
        )
        loss, _, _ = step(trainer, BATCH)
        assert np.isnan(loss)
        assert all(not gradient.any() for gradient in applied(trainer))

    def test_smoothing_costs_what_its_definition_says(self):
        losses = {e: mean_loss(make_trainer(label_smoothing=e), BATCH) for e in (0.0, 0.1, 0.3)}
        # Linear in the smoothing, for it mixes two cross-entropies.
        slope = (losses[0.1] - losses[0.0]) / 0.1
        assert losses[0.3] == pytest.approx(losses[0.0] + 0.3 * slope, rel=1e-4)
        logits = make_trainer().model({name: BATCH[name] for name in ("source", "target")}).numpy()
        log_odds = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        everywhere = -log_odds.mean(axis=-1)[BATCH["labels"] != 0].mean()
        assert losses[0.0] + slope == pytest.approx(everywhere, rel=1e-3)


BATCHES = [draw_batch(number) for number in range(4)]


@pytest.fixture(scope="module")
def plain():
    """A trainer after four steps of a Transformer, and what they returned."""
    trainer = make_trainer(TransformedDigits())
    return trainer, step(trainer, *BATCHES)


class ManyWaysTest:
    """The same steps of a Transformer on two replicas, compiled, and in bfloat16."""

    def test_two_replicas_give_what_one_gives(self, plain):
        one, expected = plain
        tokens = [np.count_nonzero(BATCH["labels"][first::2]) for first in (0, 1)]
        assert tokens[0] != tokens[1]
        two = make_trainer(TransformedDigits(), two_replicas())
        assert step(two, *BATCHES) == pytest.approx(expected, rel=1e-5)
        assert_close(weights(two), weights(one))
        assert_close([v.numpy() for v in two.ema], [v.numpy() for v in one.ema])

    def test_a_compiled_step_gives_what_a_plain_one_gives(self, plain):
        one, expected = plain
        compiled = make_trainer(TransformedDigits(), jit_compile=True)
        assert step(compiled, *BATCHES) == pytest.approx(expected, rel=1e-4)
        assert_close(weights(compiled), weights(one), atol=1e-5)

    def test_mixed_bfloat16_learns_with_weights_in_float32(self):
        trainer = make_trainer(TransformedDigits(), precision="mixed_bfloat16")
        assert {variable.dtype for variable in trainer.model.trainable_variables} == {"float32"}
        assert trainer.model.encoder.compute_dtype == "bfloat16"
        first, items, _ = step(trainer, BATCH)
        last, _, _ = [step(trainer, BATCH) for _ in range(19)][-1]
        assert last / items < first / items - 0.5

    def test_two_replicas_train_with_dropout_and_one_goes_on_with_their_run(self, tmp_path):
        assert run(tmp_path, strategy=two_replicas(), steps=3)["steps"] == 3
        assert run(tmp_path, steps=4)["steps"] == 4
