"""The length of a run and its periods, as steps, epochs and shares."""

import pytest
import tensorflow as tf

from pipelines.tasks import translation
from pipelines.training import settings


def make(**train):
    config = translation.default_config()
    config.train.update(train)
    return config


def check(**train):
    settings.check(make(**train), tf.distribute.get_strategy(), translation.METRICS)


class InStepsTest:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ({"epochs": 3}, {"steps": 129, "warmup_steps": 12}),
            ({"epochs": 0.5, "accumulate": 2}, {"steps": 11}),
            ({"epochs": 0.001, "warmup_steps": "50%"}, {"steps": 1, "warmup_steps": 0}),
            ({"steps": 400, "warmup_steps": "5%"}, {"steps": 400, "warmup_steps": 20}),
            ({"steps": 86, "accumulate": 3}, {"steps": 86, "epochs": 6.0}),
            ({"steps": 400, "warmup_steps": 400}, {"warmup_steps": 40}),
            ({"steps": 400, "warmup_steps": 399}, {"warmup_steps": 399}),
            ({"steps": 40, "validate_every": "0.1 %", "log_every": "7.5%"}, {"validate_every": 1}),
            ({"steps": 40, "log_every": "7.5%", "checkpoint_every": "100%"}, {"log_every": 3}),
        ],
    )
    def test_each_is_a_number_of_steps(self, given, expected):
        config = make(**given)
        train = settings.in_steps(config, 43.0).train
        assert {key: train[key] for key in expected} == expected
        assert {key: config.train[key] for key in given} == given  # It stays as it was.


class CheckTest:
    @pytest.mark.parametrize(
        "train",
        [{"epochs": 2.5, "warmup_steps": "5%", "schedule": "cosine"}, {"steps": 1}],
    )
    def test_one_length_is_taken(self, train):
        check(**train)

    @pytest.mark.parametrize(
        ("train", "expected"),
        [
            ({}, "either train.steps or train.epochs, received train.steps=None and"),
            ({"steps": 3, "epochs": 3}, "either train.steps or train.epochs"),
            ({"epochs": 0}, "train.epochs=0"),
            ({"epochs": float("nan")}, "train.epochs=nan"),
            ({"epochs": "3"}, "train.epochs='3'"),
            ({"steps": 2.5}, "train.steps=2.5"),
            ({"steps": True}, "train.steps=True"),
            ({"steps": 3, "weight_decay_end": "0.4x"}, "a number or None, .*end='0.4x'"),
            ({"steps": 3, "weight_decay_end": -0.1}, "weight_decay_end to be at least 0"),
            ({"steps": 3, "warmup_steps": "5"}, "a share such as .*train.warmup_steps='5'"),
            ({"steps": 3, "log_every": "101%"}, "a share such as .*train.log_every='101%'"),
            ({"steps": 3, "validate_every": "-5%"}, "validate_every='-5%'"),
        ],
    )
    def test_anything_else_is_one_sentence(self, train, expected):
        with pytest.raises(ValueError, match=expected):
            check(**train)
