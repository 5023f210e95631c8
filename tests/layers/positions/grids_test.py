"""Positions in a grid against TensorFlow's resize and the published formulas."""

import keras
import numpy as np
import pytest
from keras import ops

from kerasformer.layers.positions.grids import (
    LearnedGridPositions,
    SinusoidalGridPositions,
    grid_positions,
    resize_grid,
)
from kerasformer.layers.stacks import Encoder
from tests.backend import gradients, needs_tensorflow, tf

BATCH, ROWS, COLUMNS, HIDDEN, PREFIX = 2, 5, 7, 12, 3
GRID = (ROWS, COLUMNS)
OTHER_GRIDS = [(11, 13), (3, 2), (2, 13), (11, 3), (5, 11), (1, 1), (10, 14)]


def random_table(prefix=PREFIX, grid=GRID, seed=0):
    shape = (prefix + grid[0] * grid[1], HIDDEN)
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


class ResizeGridTest:
    @pytest.mark.parametrize("grid", OTHER_GRIDS)
    @needs_tensorflow
    def test_it_is_the_antialiased_bicubic_resize_of_pictures(self, grid):
        table = random_table()
        picture = table[PREFIX:].reshape(*GRID, HIDDEN)
        expected = tf.image.resize(picture, grid, method="bicubic", antialias=True)
        resized = np.array(resize_grid(table, GRID, grid))
        np.testing.assert_allclose(resized[PREFIX:].reshape(*grid, HIDDEN), expected, atol=1e-5)

    @pytest.mark.parametrize("grid", [*OTHER_GRIDS, GRID])
    @pytest.mark.parametrize("prefix", [0, PREFIX])
    def test_prefix_tokens_are_kept_as_they_are(self, grid, prefix):
        table = random_table(prefix)
        resized = np.array(resize_grid(table, GRID, grid))
        assert len(resized) == prefix + grid[0] * grid[1]
        np.testing.assert_array_equal(resized[:prefix], table[:prefix])

    def test_the_same_grid_changes_nothing(self):
        table = random_table()
        assert resize_grid(table, GRID, list(GRID)) is table

    def test_a_transposed_grid_is_another_one(self):
        resized = resize_grid(random_table(), GRID, GRID[::-1])
        assert np.abs(resized - random_table()).max() > 0.1

    def test_a_constant_stays_one_and_a_slope_stays_a_slope_inside(self):
        ones = resize_grid(np.ones((35, 1), "float32"), GRID, (11, 4))
        np.testing.assert_allclose(ones, 1, rtol=1e-6)
        slope = np.tile(np.arange(COLUMNS, dtype="float32"), ROWS)[:, np.newaxis]
        finer = np.array(resize_grid(slope, GRID, (ROWS, 2 * COLUMNS))).reshape(ROWS, -1)
        np.testing.assert_allclose(np.diff(finer[:, 4:-4]), 0.5, atol=1e-5)

    def test_16_bits_are_resized_in_32_and_rounded_once(self):
        table = ops.cast(random_table(), "bfloat16")
        resized = resize_grid(table, GRID, (11, 13))
        exact = resize_grid(ops.cast(table, "float32"), GRID, (11, 13))
        exact = ops.cast(exact, "bfloat16")
        np.testing.assert_array_equal(*map(ops.convert_to_numpy, (resized, exact)))

    def test_a_table_that_is_too_short_is_refused(self):
        message = r"at least 35 rows for old_grid=\(5, 7\), received table.shape=\(34, 2\)"
        with pytest.raises(ValueError, match=message):
            resize_grid(np.ones((34, 2)), GRID, (3, 3))


def learned(grid=GRID, prefix=PREFIX, **arguments):
    layer = LearnedGridPositions(grid, prefix, **arguments)
    layer.build((None, None, HIDDEN))
    return layer


def sinusoidal(grid=GRID, prefix=PREFIX, **arguments):
    layer = SinusoidalGridPositions(grid, prefix, **arguments)
    layer.build((None, None, HIDDEN))
    return layer


@pytest.mark.parametrize("make", [learned, sinusoidal])
class CallTest:
    def test_the_table_is_added_to_the_sequence(self, make):
        layer, inputs = make(), np.stack([random_table(seed=seed) for seed in range(BATCH)])
        table = ops.convert_to_numpy(layer.position_table(HIDDEN))
        np.testing.assert_allclose(layer(inputs), inputs + table, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("grid", OTHER_GRIDS)
    def test_another_grid_gets_the_table_resized(self, make, grid):
        layer = make()
        inputs = ops.zeros((BATCH, PREFIX + grid[0] * grid[1], HIDDEN))
        expected = resize_grid(layer.position_table(HIDDEN), GRID, grid)
        call = tf.function(layer, jit_compile=True) if tf else layer
        outputs = call(inputs, grid_size=grid)
        np.testing.assert_allclose(outputs[1], expected, atol=1e-6)

    def test_every_place_has_a_vector_of_its_own(self, make):
        table = ops.convert_to_numpy(make().position_table(HIDDEN))[PREFIX:]
        distances = np.abs(table[:, np.newaxis] - table).max(axis=-1)
        assert np.all(distances + np.eye(ROWS * COLUMNS) > 1e-3)

    def test_a_length_that_is_not_that_of_the_grid_is_refused(self, make):
        message = (
            r"Expected 38 steps for grid_size=\(5, 7\) and num_prefix_tokens=3, received length=35."
        )
        with pytest.raises(ValueError, match=message):
            make()(ops.zeros((1, 35, HIDDEN)))
        with pytest.raises(ValueError, match=r"Expected 9 steps for grid_size=\(2, 3\)"):
            make()(ops.zeros((1, 38, HIDDEN)), grid_size=(2, 3))

    @pytest.mark.parametrize("grid", [(3,), (0, 5), (2, 3, 5)])
    def test_a_grid_that_is_none_is_refused(self, make, grid):
        with pytest.raises(ValueError, match="two positive numbers, received grid_size="):
            make(grid)


class LearnedGridPositionsTest:
    def test_a_gradient_flows_through_the_resize(self):
        layer = learned()
        inputs = ops.zeros((1, PREFIX + 6, HIDDEN))
        (gradient,) = gradients(lambda: ops.sum(layer(inputs, grid_size=(2, 3))), [layer.table])
        gradient = ops.convert_to_numpy(gradient)
        np.testing.assert_allclose(gradient[:PREFIX], 1)
        np.testing.assert_allclose(np.sum(gradient[PREFIX:]), 6 * HIDDEN, rtol=1e-5)

    def test_it_starts_small(self):
        table = ops.convert_to_numpy(learned((29, 31), 0).table)
        assert abs(table.std() - 0.02) < 0.001

    @pytest.mark.parametrize("kind", ["model.keras", "model.weights.h5"])
    @pytest.mark.parametrize("grid", [GRID, (3, 11)])
    def test_stored_weights_are_resized_to_the_grid_that_loads_them(self, kind, grid, tmp_path):
        def model(grid):
            inputs = keras.Input((PREFIX + grid[0] * grid[1], HIDDEN))
            return keras.Model(inputs, LearnedGridPositions(grid, PREFIX, name="p")(inputs))

        stored, other = model(GRID), model(grid)
        path = tmp_path / kind
        (stored.save if kind == "model.keras" else stored.save_weights)(path)
        if kind == "model.keras":
            same = keras.saving.load_model(path)
            np.testing.assert_array_equal(same.get_weights()[0], stored.get_weights()[0])
        other.load_weights(path)
        expected = resize_grid(stored.get_weights()[0], GRID, grid)
        np.testing.assert_array_equal(other.get_weights()[0], expected)

    def test_an_array_of_another_grid_is_taken_over(self):
        layer, table = learned((3, 11)), random_table()
        layer.load_table(table, GRID)
        np.testing.assert_array_equal(layer.table, resize_grid(table, GRID, (3, 11)))

    def test_a_table_with_other_prefix_tokens_is_refused(self):
        message = r"shape \(38, 12\) once it has grid_size=\(5, 7\), received shape=\(37, 12\)"
        with pytest.raises(ValueError, match=message):
            learned().load_table(random_table(prefix=2, grid=(2, 3)), (2, 3))


def big_vision(row, column, d):
    """`sincos2d`: columns before rows, sines before cosines, the last frequency is 1 / 10000."""
    omega = 10000.0 ** -(np.arange(d // 4) / (d // 4 - 1))
    angles = [np.sin(column * omega), np.cos(column * omega)]
    return np.concatenate([*angles, np.sin(row * omega), np.cos(row * omega)])


def moco(row, column, d):
    omega = 10000.0 ** -(np.arange(d // 4) / (d // 4))
    angles = [np.sin(column * omega), np.cos(column * omega)]
    return np.concatenate([*angles, np.sin(row * omega), np.cos(row * omega)])


class SinusoidalGridPositionsTest:
    @pytest.mark.parametrize(
        ("layout", "formula"), [("tensor2tensor", big_vision), ("concatenated", moco)]
    )
    def test_it_is_what_was_published_and_leaves_prefix_tokens_alone(self, layout, formula):
        table = sinusoidal(layout=layout).position_table(HIDDEN)
        np.testing.assert_array_equal(table[:PREFIX], 0)
        places = [(row, column) for row in range(ROWS) for column in range(COLUMNS)]
        expected = [formula(*place, HIDDEN) for place in places]
        np.testing.assert_allclose(table[PREFIX:], expected, atol=1e-5)

    def test_it_has_no_weights(self):
        assert not sinusoidal().weights

    def test_a_width_that_four_does_not_divide_is_refused(self):
        with pytest.raises(ValueError, match="multiple of 4, received hidden_dim=14"):
            SinusoidalGridPositions(GRID)(ops.zeros((1, 35, 14)))

    def test_an_unknown_layout_is_refused(self):
        with pytest.raises(ValueError, match="received layout='spiral'"):
            sinusoidal(layout="spiral").position_table(HIDDEN)


class GridPositionsTest:
    def test_places_are_listed_row_by_row_behind_the_prefix(self):
        places = np.array(grid_positions(GRID, PREFIX))
        assert places.dtype == "int32"
        expected = [(0, 0)] * PREFIX + [(row, column) for row in range(5) for column in range(7)]
        np.testing.assert_array_equal(places, [expected])

    def test_rotary_attention_over_a_grid_depends_on_distances_in_both_directions(self):
        encoder = Encoder(1, HIDDEN, 3, 13, use_rotary=True)
        inputs = random_table(0)[np.newaxis]
        places = grid_positions(GRID)
        outputs = encoder(inputs, positions=places)
        moved = encoder(inputs, positions=places + ops.array([11, 29]))
        np.testing.assert_allclose(moved, outputs, rtol=1e-4, atol=1e-5)
        for stretched in ([2, 1], [1, 2]):
            other = encoder(inputs, positions=places * ops.array(stretched))
            assert np.abs(other - outputs).max() > 1e-3
