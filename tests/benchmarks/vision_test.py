"""The vision benchmark: all sides do the work that they are timed for."""

import math

import pytest

from pipelines.benchmarks import turns, vision
from pipelines.benchmarks.vision import Sizes, make_input_work, make_masked_work, make_work

SIZES = Sizes(8, 4, 1, 12, 3, 17, num_classes=5, batch_size=7)


@pytest.mark.integration
class SidesTest:
    @pytest.mark.parametrize("make", [vision.ours, vision.keras_hub])
    def test_training_starts_near_the_loss_of_chance_and_learns(self, make, monkeypatch):
        monkeypatch.setattr(vision, "LEARNING_RATE", 0.02)
        step = make(SIZES, True, jit_compile=False, precision="float32")
        losses = [float(step()) for _ in range(19)]
        assert losses[0] == pytest.approx(math.log(5), rel=0.5)
        assert losses[-1] < losses[0] - 0.5

    @pytest.mark.parametrize("make", [vision.ours, vision.keras_hub])
    @pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
    def test_a_step_forward_gives_logits(self, make, precision):
        logits = make(SIZES, False, jit_compile=True, precision=precision)()
        assert logits.shape == (7, 5) and logits.dtype == "float32"

    def test_both_models_have_as_many_weights(self):
        ours = vision.transformer(SIZES, "float32").count_params()
        assert ours == vision.keras_hub_transformer(SIZES, "float32").count_params()


@pytest.mark.integration
class WorkTest:
    def test_timm_is_never_compiled(self):
        labels = [s.label(True, "float32") for s in make_work("some", SIZES, True).sides]
        assert labels == ["kerasformer xla", "keras-hub xla", "timm"]

    def test_reading_is_compared_with_training(self):
        work = make_input_work(num_images=300)
        read, train, ratio = turns.measure(work._replace(warm_up=1, rounds=1))
        assert [side.items for side in work.sides] == [256, 128]
        assert [r["peer"] for r in (read, train, ratio)] == [
            "input",
            "training",
            "input / training",
        ]
        assert min(read["value"], train["value"]) > 0

    def test_an_encoder_reads_the_visible_patches_or_all(self):
        work = make_masked_work(Sizes(8, 2, 1, 12, 3, 17, num_classes=5, batch_size=7))
        *sides, ratio = turns.measure(work._replace(warm_up=1, rounds=1))
        assert [side["peer"] for side in sides] == ["visible", "all"]
        assert ratio["value"] == pytest.approx(sides[0]["value"] / sides[1]["value"], rel=0.01)

    def test_a_call_of_reading_reads_an_epoch(self):
        call = make_input_work(num_images=300).sides[0].make(False, "float32")
        assert call() == call() == [(128, 32, 32, 3)] * 2
