"""Initializers that configs name: their clones draw for themselves, unless they have a seed."""

import json

import keras
import numpy as np
import pytest

from kerasformer.layers.initializers import clone_initializer, serialize_initializer

SHAPE = (3, 5)


def test_clones_of_an_object_draw_other_numbers_of_the_same_distribution():
    initializer = keras.initializers.RandomUniform(2.0, 3.0)
    first, second = (np.array(clone_initializer(initializer)(SHAPE)) for _ in range(2))
    assert np.all(first != second)
    assert np.all((first >= 2) & (first <= 3))


def test_clones_of_an_object_with_a_seed_draw_the_same():
    initializer = keras.initializers.RandomNormal(seed=7)
    np.testing.assert_array_equal(clone_initializer(initializer)(SHAPE), initializer(SHAPE))


@pytest.mark.parametrize(
    "identifier",
    [
        "he_normal",
        keras.initializers.Constant(2.0),
        keras.initializers.serialize(keras.initializers.Constant(2.0)),
        None,
    ],
)
def test_what_is_serialized_survives_json_and_stays_as_it_is(identifier):
    config = serialize_initializer(identifier)
    assert serialize_initializer(json.loads(json.dumps(config))) == config
    assert clone_initializer(config) == config
    if identifier is not None:
        expected = keras.initializers.get(identifier).get_config()
        assert set(keras.initializers.get(config).get_config()) == set(expected)
