"""Families of models: what a config may name, and a run of one that is no Transformer."""

import numpy as np
import pytest

from pipelines.exported.models import Model
from pipelines.exported.pixels import classify
from pipelines.images.description import read_description
from pipelines.images.models import MODELS, make
from pipelines.runs import export
from pipelines.runs.config import complete
from pipelines.runs.weights import load_model
from pipelines.tasks import classification
from pipelines.training import loop


def named(name, **changes):
    config = classification.default_config()
    config.model.update(name=name, variant=MODELS[name].small, image_size=8)
    config.update_from_flattened_dict({f"model.{key}": value for key, value in changes.items()})
    return config


class CheckTest:
    def test_an_old_config_names_no_family_and_means_the_transformer(self):
        old = classification.default_config()
        del old.model["name"]
        complete(old, classification.default_config())
        assert MODELS.of(old) is MODELS["vit"]

    @pytest.mark.parametrize("name", MODELS)
    def test_the_variants_that_pictures_choose_are_there(self, name):
        for variant in (MODELS[name].small, MODELS[name].large):
            classification.check(named(name, variant=variant))

    @pytest.mark.parametrize(
        ("name", "key", "value"),
        [
            ("mixer", "variant", "CCT-7/3x1"),
            ("convolutional", "variant", "VGG16"),
            ("vit", "weights", "imagenet"),
        ],
    )
    def test_what_a_family_has_not_is_one_sentence(self, name, key, value):
        with pytest.raises(ValueError, match=f"model.name='{name}'.*model.{key}='{value}'"):
            classification.check(named(name, **{key: value}))

    @pytest.mark.parametrize(("size", "variant"), [(8, "Lite-4/4"), ((24, 224), "Lite-4/16")])
    def test_a_variant_of_another_family_becomes_one_of_the_named_family(self, size, variant):
        config = named("mixer", variant="CCT-7/3x1", image_size=size)
        (sentence,) = classification.settle(config)
        assert config.model.variant == variant
        assert sentence.startswith("Chosen for model.name=mixer, which has no CCT-7/3x1: model.var")
        assert not classification.settle(config)
        config.model.variant = "CCT-9000"  # Of none.
        assert not classification.settle(config) and config.model.variant == "CCT-9000"

    def test_a_run_of_another_family_and_published_weights_of_a_run_are_refused(self):
        config = named("keras", weights="imagenet")
        config.start.workdir = "runs/first"
        with pytest.raises(ValueError, match="either model.weights or start.workdir, received"):
            classification.check(config)
        with pytest.raises(ValueError, match="'runs/first' .*'keras', received .*'gmlp'"):
            MODELS.check_start(config, named("gmlp"))

    def test_an_unknown_family_is_one_sentence(self):
        config = named("vit")
        config.model.name = "perceptron"
        with pytest.raises(ValueError, match="vit, mixer, .*, received model.name='perceptron'"):
            classification.check(config)


class MakeTest:
    def test_arguments_of_attention_are_left_out_where_there_is_none(self):
        config = named("conv_mixer", num_heads=4, attention_dropout=0.1, hidden_dim=7)
        assert MODELS.left_out(config) == ["attention_dropout", "num_heads"]
        (said,) = classification.settle(config)
        assert "model.name=conv_mixer, which has no use for them: model.att" in said
        assert make(config, 5).hidden_dim == 7

    @pytest.mark.parametrize("name", ["mixer", "gmlp", "conv_mixer", "convolutional", "keras"])
    def test_an_argument_that_nothing_reads_is_named(self, name):
        for key in ("colour", "distillation"):
            if name in ("mixer", "gmlp") and key == "distillation":
                continue
            with pytest.raises(ValueError, match=key):
                make(named(name, **{key: True}), 5)

    @pytest.mark.parametrize("name", ["mixer", "gmlp"])
    def test_a_student_without_class_tokens_is_one_sentence(self, name):
        with pytest.raises(
            ValueError, match="'class' with distillation=True, received pool='mean'"
        ):
            make(named(name, distillation=True), 5)


@pytest.mark.integration
class RunTest:
    def test_one_with_batch_statistics_trains_and_answers_but_shows_no_attention(self, tmp_path):
        random = np.random.default_rng(0)
        pixels = random.integers(0, 256, (13, 8, 8, 3), np.uint8)
        np.savez(tmp_path / "a.npz", images=pixels, labels=np.arange(13) % 3)
        splits = dict.fromkeys(("train", "validation", "test"), "a.npz")
        config = named("conv_mixer", hidden_dim=7, num_layers=1, kernel_size=3)
        config.data.update(format="npz", folder=str(tmp_path), **splits)
        config.train.update(steps=2, batch_size=5, warmup_steps=1, ema=0.9, learning_rate=0.01)
        run = tmp_path / "run"
        loop.train(classification, config, str(run))
        model = load_model(classification.build, config, str(run), "last")
        moving = [w.numpy() for w in model.weights if w.name == "moving_variance"]
        assert len(moving) == 3 and all((x > 0).all() and (x != 1).all() for x in moving)
        export.export(classification, config, str(run), "last")
        exported = Model(run / "export")
        assert not [name for name in exported.signatures if "attention" in name]
        features = exported.signatures["embed_pixels"](pixels=pixels)["features"]
        mean, deviation = (read_description(str(run))[key] for key in ("mean", "deviation"))
        expected = model.features((pixels - np.float32(mean)) / np.float32(deviation))
        np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
        with pytest.raises(ValueError, match="a model without attention, .*--attention=b.png"):
            classify(exported, ["a.png"], None, "b.png", 1, None)
