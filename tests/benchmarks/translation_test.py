"""The translation benchmark: both sides do the work that they are timed for."""

import math

import numpy as np
import pytest

from pipelines.benchmarks import translation, turns
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


class TrainingTest:
    @pytest.mark.parametrize("make", [translation.training, translation.keras_hub_training])
    def test_both_sides_start_near_the_loss_of_chance_and_learn(self, make, monkeypatch):
        monkeypatch.setattr(translation, "LEARNING_RATE", 0.02)
        step = make(TRAINING, jit_compile=False, precision="float32")
        losses = [step() for _ in range(19)]
        assert losses[0] == pytest.approx(math.log(V), rel=0.4)
        assert losses[-1] < losses[0] - 0.5

    def test_both_models_have_the_same_weights_but_for_positions_and_final_norms(self):
        ours = translation.transformer(TRAINING, "float32").count_params()
        theirs = translation.keras_hub_transformer(TRAINING, "float32").count_params()
        positions = (SIZES["source_length"] + SIZES["target_length"]) * SIZES["hidden_dim"]
        assert ours - 2 * 2 * SIZES["hidden_dim"] == theirs - positions


class SearchTest:
    @pytest.mark.parametrize("make", [translation.search, translation.keras_hub_search])
    @pytest.mark.parametrize("sizes", [GREEDY, BEAM])
    def test_both_sides_give_as_many_tokens_as_are_counted(self, sizes, make):
        token_ids = make(sizes, jit_compile=False, precision="float32")()
        assert token_ids.shape == (7, 13)
        if make is translation.search:
            assert np.all(token_ids > 2)


class MakeWorkTest:
    @pytest.mark.parametrize(("sizes", "beam"), [(TRAINING, 0), (GREEDY, 1), (BEAM, 3)])
    def test_a_record_a_side_and_the_ratio_come_out(self, sizes, beam):
        work = make_work("some", sizes)
        ours, theirs, ratio = turns.measure(work)
        hub = "keras-hub xla" if beam else "keras-hub"
        assert [r["peer"] for r in (ours, theirs, ratio)] == [
            "kerasformer",
            hub,
            f"kerasformer / {hub}",
        ]
        assert ours["unit"] == theirs["unit"] == ("tok/s" if beam else "target tok/s")

    def test_real_tokens_of_the_target_count(self):
        assert [side.items for side in make_work("some", TRAINING).sides] == [7 * 10] * 2
        assert [side.items for side in make_work("some", BEAM).sides] == [7 * 13] * 2

    @pytest.mark.parametrize("sizes", [TRAINING, BEAM])
    def test_compiled_work_in_bfloat16_is_done_and_named_so(self, sizes):
        work = make_work("some", sizes)
        work = work._replace(sides=work.sides[:1])
        (record,) = turns.measure(work, jit_compile=True, precision="mixed_bfloat16")
        assert record["peer"] == "kerasformer xla mixed_bfloat16"
        assert record["value"] > 0
