"""The learning rates against numpy, at their boundaries, stored, and inside an optimizer."""

import keras
import numpy as np
import pytest

from kerasformer.schedules import (
    InverseSquareRoot,
    Noam,
    WarmUpCosine,
    WarmUpLinear,
    half_cosine,
)
from tests.backend import needs_tensorflow, tf

STEPS = np.arange(0, 40)
# Steps count from 0 outside of a schedule, and from 1 in the formulas.
T = STEPS + 1.0


def falling(fall, peak=0.3, total=23, warmup=7, end=0.02):
    progress = np.clip((T - warmup) / (total - warmup), 0, 1)
    return np.where(T <= warmup, peak * T / max(warmup, 1), end + (peak - end) * fall(progress))


SCHEDULES_AND_RATES = [
    (InverseSquareRoot(0.3, 7), np.where(T < 7, 0.3 * T / 7, 0.3 * np.sqrt(7 / T))),
    (Noam(64, 7), 64**-0.5 * np.minimum(T**-0.5, T * 7**-1.5)),
    (Noam(64, 7, scale=2.0), 2 * 64**-0.5 * np.minimum(T**-0.5, T * 7**-1.5)),
    (WarmUpLinear(0.3, 23, 7, 0.02), falling(lambda p: 1 - p)),
    (WarmUpLinear(0.3, 23), falling(lambda p: 1 - p, warmup=0, end=0.0)),
    (WarmUpCosine(0.3, 23, 7, 0.02), falling(lambda p: (1 + np.cos(np.pi * p)) / 2)),
    (WarmUpCosine(0.3, 23), falling(lambda p: (1 + np.cos(np.pi * p)) / 2, warmup=0, end=0.0)),
]
SCHEDULES = [schedule for schedule, _ in SCHEDULES_AND_RATES]


class FormulaTest:
    @pytest.mark.parametrize(("schedule", "rates"), SCHEDULES_AND_RATES)
    def test_each_step_follows_the_formula(self, schedule, rates):
        np.testing.assert_allclose([float(schedule(step)) for step in STEPS], rates, atol=1e-7)

    @pytest.mark.parametrize("schedule", SCHEDULES)
    def test_the_first_update_is_not_wasted(self, schedule):
        assert float(schedule(0)) > 0

    def test_the_peak_is_the_last_step_of_the_warm_up(self):
        for schedule in (
            InverseSquareRoot(0.3, 7),
            WarmUpLinear(0.3, 23, 7),
            WarmUpCosine(0.3, 23, 7),
        ):
            rates = [float(schedule(step)) for step in STEPS]
            assert np.argmax(rates) == 6
            assert rates[6] == pytest.approx(0.3)

    @pytest.mark.parametrize(
        "schedule", [WarmUpLinear(0.3, 23, 7, 0.02), WarmUpCosine(0.3, 23, 7, 0.02)]
    )
    def test_the_end_is_reached_at_the_last_step_and_kept(self, schedule):
        assert float(schedule(21)) > 0.02
        for step in (22, 23, 1000):
            assert float(schedule(step)) == pytest.approx(0.02)

    def test_noam_is_the_inverse_square_root_with_the_peak_of_the_paper(self):
        noam, by_peak = Noam(512, 4000), InverseSquareRoot((512 * 4000) ** -0.5, 4000)
        for step in (0, 1999, 3999, 4000, 99_999):
            assert float(noam(step)) == pytest.approx(float(by_peak(step)), rel=1e-6)


class UseTest:
    @pytest.mark.parametrize("schedule", SCHEDULES)
    def test_a_stored_schedule_is_the_same(self, schedule):
        stored = keras.optimizers.schedules.serialize(schedule)
        again = keras.optimizers.schedules.deserialize(stored)
        assert type(again) is type(schedule)
        assert again.get_config() == schedule.get_config()

    @pytest.mark.parametrize(("schedule", "rates"), SCHEDULES_AND_RATES)
    @needs_tensorflow
    def test_an_optimizer_in_a_graph_follows_it(self, schedule, rates):
        # Plain gradient descent on f(x) = x moves by the learning rate.
        optimizer = keras.optimizers.SGD(schedule)
        weight = keras.Variable(0.0)
        optimizer.build([weight])

        @tf.function
        def update():
            optimizer.apply([tf.ones(())], [weight])

        for _ in range(11):
            update()
        assert float(weight) == pytest.approx(-rates[:11].sum(), rel=1e-5)
        assert float(optimizer.learning_rate) == pytest.approx(rates[11], rel=1e-5)

    def test_a_stored_optimizer_keeps_its_schedule(self):
        optimizer = keras.optimizers.Adam(Noam(64, 7))
        again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
        assert float(again.learning_rate) == pytest.approx(float(Noam(64, 7)(0)))


class ErrorTest:
    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: InverseSquareRoot(0.0, 7), "Expected peak to be positive, received peak=0.0"),
            (lambda: InverseSquareRoot(0.3, 0), "received warmup_steps=0"),
            (lambda: Noam(0), "Expected hidden_dim to be positive"),
            (lambda: Noam(64, scale=-1.0), "received scale=-1.0"),
            (lambda: WarmUpLinear(0.3, 0), "Expected total_steps to be positive"),
            (lambda: WarmUpCosine(0.3, 7, 7), "received warmup_steps=7 and total_steps=7"),
            (lambda: WarmUpCosine(0.3, 7, -1), "Expected 0 <= warmup_steps < total_steps"),
        ],
    )
    def test_impossible_arguments_are_named(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()


class HalfCosineTest:
    def test_it_goes_from_the_first_update_to_the_end_that_follows_the_last(self):
        expected = 0.3 + (0.04 - 0.3) * (1 + np.cos(np.pi * np.arange(23) / 23)) / 2
        found = [float(half_cosine(step, 0.04, 0.3, 23)) for step in range(25)]
        np.testing.assert_allclose(found, [*expected, 0.3, 0.3], rtol=1e-6)
