"""The translation benchmark: both sides do the work that they are timed for."""

import math

import numpy as np
import pytest

from pipelines.benchmarks import translation
from pipelines.benchmarks.translation import Sizes, make_work

V = 23
SIZES = {
    "num_layers": 1,
    "hidden_dim": 12,
    "intermediate_dim": 17,
    "num_heads": 3,
    "vocabulary_size": V,
    "batch_size": 7,
    "source_length": 5,
    "target_length": 13,
}
TRAINING = Sizes(**SIZES)
GREEDY, BEAM = Sizes(**SIZES, beam_size=1), Sizes(**SIZES, beam_size=3)


@pytest.mark.integration
class TrainingTest:
    @pytest.mark.parametrize(
        ("side", "options"), [(0, (True, "mixed_bfloat16")), (1, (False, "float32"))]
    )
    def test_both_sides_start_near_the_loss_of_chance_and_learn(self, side, options, monkeypatch):
        monkeypatch.setattr(translation, "LEARNING_RATE", 0.02)
        step = make_work("some", TRAINING).sides[side].make(*options)
        losses = [step() for _ in range(19)]
        assert losses[0] == pytest.approx(math.log(V), rel=0.4)
        assert losses[-1] < losses[0] - 0.5

    def test_both_models_have_the_same_weights_but_for_positions_and_final_norms(self):
        ours = translation.transformer(TRAINING, "float32").count_params()
        theirs = translation.keras_hub_transformer(TRAINING, "float32").count_params()
        positions = (SIZES["source_length"] + SIZES["target_length"]) * SIZES["hidden_dim"]
        assert ours - 2 * 2 * SIZES["hidden_dim"] == theirs - positions


@pytest.mark.integration
class MakeWorkTest:
    @pytest.mark.parametrize(
        ("sizes", "options"), [(GREEDY, (False, "float32")), (BEAM, (True, "mixed_bfloat16"))]
    )
    def test_both_sides_of_a_search_give_as_many_tokens_as_are_counted(self, sizes, options):
        ours, theirs = (side.make(*options)() for side in make_work("some", sizes).sides)
        assert ours.shape == theirs.shape == (7, 13)
        assert np.all(ours > 2)

    @pytest.mark.parametrize("sizes", [TRAINING, GREEDY, BEAM])
    def test_sides_are_named_and_real_tokens_of_the_target_count(self, sizes):
        work, is_search = make_work("some", sizes), sizes is not TRAINING
        labels = [side.label(False, "float32") for side in work.sides]
        assert labels == ["kerasformer", "keras-hub xla" if is_search else "keras-hub"]
        assert work.unit == ("tok" if is_search else "target tok")
        assert [side.items for side in work.sides] == [7 * (13 if is_search else 10)] * 2
