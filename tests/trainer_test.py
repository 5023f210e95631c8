"""The step on one and many replicas: gradients, clipping, averages, compilation, precision."""

import numpy as np
import pytest
import tensorflow as tf

from tests.digits import (
    TransformedDigits,
    as_dataset,
    draw_batch,
    make_trainer,
    mean_loss,
    run,
    two_replicas,
)


def step(trainer, *batches):
    """Takes a step on each batch; returns the sums of losses and items, and the last norm."""
    found = trainer.steps(iter(as_dataset(list(batches))), tf.constant(len(batches)))
    return [float(x) for x in found]


def weights(trainer):
    return [variable.numpy() for variable in trainer.model.trainable_variables]


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
