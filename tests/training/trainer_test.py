"""The step on one and many replicas: gradients, clipping, averages, compilation, precision."""

import numpy as np
import pytest
import tensorflow as tf

from pipelines.runs.weights import model_variables
from pipelines.training import loss_scale
from tests.training.token_task import (
    ONE_DEVICE,
    Overflowing,
    as_dataset,
    draw_batch,
    draw_overflow,
    make_trainer,
    mean_loss,
    replicas,
    run,
    step,
    take_steps,
    two_replicas,
    weights,
)


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

    def test_the_moving_average_is_one_of_the_weights_after_each_step_alone(self):
        trainer, seen = make_trainer(ema=0.7), []
        for number in range(3):
            step(trainer, draw_batch(number))
            seen.append(weights(trainer))
        shares = np.array([0.7**2, 0.7, 1.0]) / (0.7**2 + 0.7 + 1.0)
        expected = [np.tensordot(shares, values, 1) for values in zip(*seen, strict=True)]
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

    @pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
    def test_batches_are_accumulated_as_if_they_were_one(self, precision):
        parts = [draw_batch(number, rows=5) for number in range(3)]
        whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        split, one = make_trainer(accumulate=3, ema=0.9), make_trainer(ema=0.9)
        iterator = iter(as_dataset(parts * 2))
        for _ in range(2):
            found = take_steps(split, iterator, 1)
            assert found == pytest.approx(step(one, whole), rel=1e-5)
        assert_close(weights(split), weights(one))

    def test_smoothing_costs_what_its_definition_says(self):
        losses = {e: mean_loss(make_trainer(label_smoothing=e), BATCH) for e in (0.0, 0.1, 0.3)}
        # Linear in the smoothing, because it mixes two cross-entropies.
        slope = (losses[0.1] - losses[0.0]) / 0.1
        assert losses[0.3] == pytest.approx(losses[0.0] + 0.3 * slope, rel=1e-4)
        logits = make_trainer().model({name: BATCH[name] for name in ("source", "target")}).numpy()
        log_odds = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        everywhere = -log_odds.mean(axis=-1)[BATCH["labels"] != 0].mean()
        assert losses[0.0] + slope == pytest.approx(everywhere, rel=1e-3)


BATCHES = [draw_batch(number) for number in range(4)]
STEPS = [draw_batch(number, rows=7) for number in range(20)]
# Neither number of rows can be shared equally; of one row some replicas get nothing.
VALIDATION = [draw_batch(31, rows=5), {name: ids[:1] for name, ids in draw_batch(37).items()}]


def twenty_steps(trainer):
    """Takes 20 steps; returns what each gave."""
    iterator = iter(as_dataset(STEPS))
    return np.array([take_steps(trainer, iterator, 1) for _ in STEPS])


@pytest.fixture(scope="module")
def one_device():
    """A trainer after 20 steps on one device, and what they gave."""
    trainer = make_trainer(ema=0.9)
    return trainer, twenty_steps(trainer)


@pytest.mark.integration
class ManyWaysTest:
    """The same steps compiled, and in bfloat16. The layers themselves are in `conformance_test`."""

    def test_compiled_steps_give_what_plain_ones_give(self, one_device):
        one, expected = one_device
        compiled = make_trainer(ema=0.9, jit_compile=True)
        np.testing.assert_allclose(twenty_steps(compiled), expected, rtol=1e-4)
        assert_close(weights(compiled), weights(one), atol=1e-5)

    def test_mixed_bfloat16_learns_with_weights_in_float32(self):
        trainer = make_trainer(precision="mixed_bfloat16")
        assert {variable.dtype for variable in trainer.model.trainable_variables} == {"float32"}
        assert trainer.model.layers[-1].compute_dtype == "bfloat16"
        first, items, _ = step(trainer, BATCH)
        last, _, _ = [step(trainer, BATCH) for _ in range(19)][-1]
        assert last / items < first / items - 0.5

    def test_two_replicas_train_with_dropout_and_one_goes_on_with_their_run(self, tmp_path):
        assert run(tmp_path, strategy=two_replicas(), steps=3)["steps"] == 3
        assert run(tmp_path, steps=4)["steps"] == 4


@pytest.mark.integration
class LossScaleTest:
    """An infinite gradient leaves everything but the scale as it was."""

    def state(self, trainer):
        return {name: a for name, a in trainer.arrays().items() if "loss_scale" not in name}

    def test_float16_learns_what_float32_does(self):
        half, full = make_trainer(precision="mixed_float16"), make_trainer()
        for batch in BATCHES:
            found, expected = step(half, batch), step(full, batch)
            assert found == pytest.approx(expected, rel=0.02)
        assert all(v.dtype == "float32" for v in half.model.trainable_variables)
        assert_close(weights(half), weights(full), rtol=0.05, atol=0.01)

    @pytest.mark.parametrize("make_strategy", [lambda: ONE_DEVICE, two_replicas])
    def test_an_overflow_on_one_replica_skips_the_step_on_all(self, make_strategy):
        strategy = make_strategy()
        trainer = make_trainer(Overflowing(), strategy, precision="mixed_float16", ema=0.9)
        good, bad = draw_overflow(row=strategy.num_replicas_in_sync - 1)
        step(trainer, good)
        before, scale = self.state(trainer), trainer.loss_scale.value.numpy()
        assert np.isfinite(step(trainer, bad)[0])
        after = self.state(trainer)
        assert all(np.array_equal(after[name], before[name]) for name in before)
        assert trainer.loss_scale.value.numpy() == scale / 2
        step(trainer, good)
        assert not np.array_equal(weights(trainer)[0], before["model/0000"])

    def test_the_scale_doubles_after_a_while_and_is_part_of_the_state(self, monkeypatch):
        monkeypatch.setattr(loss_scale, "PERIOD", 3)
        trainer = make_trainer(precision="mixed_float16")
        first = trainer.loss_scale.value.numpy()
        step(trainer, *BATCHES[:2])
        other = make_trainer(precision="mixed_float16", seed=5)
        other.restore(trainer.arrays())
        step(other, BATCHES[2])
        assert other.loss_scale.value.numpy() == 2 * first
        assert other.loss_scale.good_steps.numpy() == 0

    def test_a_scale_that_nothing_helps_gives_a_loss_that_is_not_finite(self):
        trainer = make_trainer(precision="mixed_float16")
        assert np.isfinite(step(trainer, BATCH)[0])
        trainer.loss_scale.value.assign(loss_scale.LEAST / 2)
        assert np.isnan(step(trainer, BATCH)[0])


def local_losses(trainer, batch):
    """Computes the gradients on each replica; returns what each finds of the loss."""
    results = trainer.strategy.run(trainer._replica_gradients, (batch,))
    return [float(x) for x in trainer.strategy.experimental_local_results(results[1])]


def random_states(trainer):
    """Returns by name what each replica holds of every random state."""
    seeds = {n: v for n, v in model_variables(trainer.model).items() if "seed" in v.name}
    local = trainer.strategy.experimental_local_results
    return {name: [part.numpy().tolist() for part in local(v.value)] for name, v in seeds.items()}


@pytest.mark.integration
class ReplicasTest:
    """What two and three replicas share, and what each has for itself."""

    # Of a Transformer: `tests/distribution/workers_test.py`.
    @pytest.mark.parametrize("count", [2, 3])
    def test_they_take_the_steps_of_one_device(self, one_device, count):
        one, expected = one_device
        tokens = [[np.count_nonzero(b["labels"][i::count]) for i in range(count)] for b in STEPS]
        assert sum(len(set(shares)) > 1 for shares in tokens) > len(STEPS) / 2
        many = make_trainer(strategy=replicas(count), ema=0.9)
        np.testing.assert_allclose(twenty_steps(many), expected, rtol=1e-5)
        found, metrics = (x.validate(as_dataset(VALIDATION)) for x in (many, one))
        assert found == pytest.approx(metrics, rel=1e-5)
        assert_close(many.arrays().values(), one.arrays().values(), rtol=1e-5)

    def test_a_replica_without_rows_takes_part(self):
        batch = {name: ids[:1] for name, ids in BATCH.items()}
        one, many = make_trainer(), make_trainer(strategy=replicas(3))
        assert step(many, batch) == pytest.approx(step(one, batch), rel=1e-5)
        assert_close(weights(many), weights(one))

    def test_the_gradients_they_share_are_dense_and_sum_to_that_of_one_device(self):
        trainer = make_trainer(strategy=two_replicas())
        with tf.GradientTape() as tape:
            loss, _ = trainer.task.loss(trainer.model, BATCH, trainer.config)
        embeddings = trainer.model.trainable_variables[0]
        assert isinstance(tape.gradient(loss, embeddings.value), tf.IndexedSlices)
        found, _, items = trainer.strategy.run(trainer._replica_gradients, (BATCH,))
        local = trainer.strategy.experimental_local_results
        for gradient, expected in zip(found, gradients_of(make_trainer(), BATCH), strict=True):
            parts = local(gradient)
            assert all(
                isinstance(part, tf.Tensor) and part.shape == expected.shape for part in parts
            )
            np.testing.assert_allclose(sum(parts) / sum(local(items)), expected, atol=1e-6)

    @pytest.mark.parametrize("dropout", [0.0, 0.7])
    def test_each_drops_other_numbers(self, dropout):
        trainer = make_trainer(strategy=two_replicas(), dropout=dropout)
        same_rows = {name: np.repeat(ids[:1], 2, axis=0) for name, ids in BATCH.items()}
        for _ in range(2):
            first, second = local_losses(trainer, same_rows)
            assert (first == second) == (dropout == 0)

    def test_the_random_states_of_the_first_one_are_saved_and_all_come_back(self):
        trainer, other = (make_trainer(strategy=replicas(3), dropout=0.3) for _ in range(2))
        step(trainer, BATCH, draw_batch(5))
        states, arrays = random_states(trainer), trainer.arrays()
        for name, (first, *others) in states.items():
            assert arrays[name].tolist() == first and first not in others
            assert others[0] != others[1]
        assert states and states != random_states(other)
        other.restore(arrays)
        assert random_states(other) == states
        assert step(other, draw_batch(7)) == step(trainer, draw_batch(7))

    def test_they_accumulate_batches_as_if_they_were_one(self):
        parts = [draw_batch(number, rows=5) for number in range(3)]
        whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        split, one = make_trainer(strategy=two_replicas(), accumulate=3), make_trainer()
        assert take_steps(split, iter(as_dataset(parts)), 1) == pytest.approx(
            step(one, whole), rel=1e-5
        )
        assert_close(weights(split), weights(one))
