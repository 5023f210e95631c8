"""Every shipped config: constructed, compared with what is read, and its model made."""

import importlib
import inspect
import json
from pathlib import Path

import ml_collections
import pytest
import tensorflow as tf

import pipelines.configs
from apps.tasks import TASKS
from kerasformer.models import VisionTransformer, vit_variants
from kerasformer.schedules import Noam
from kerasformer.tokenizers import train_sentencepiece
from pipelines.distribution.workers import Workers
from pipelines.tasks import translation
from pipelines.tasks.translation.models import MODELS
from pipelines.text import pairs
from pipelines.training import preparation, settings

# Not `my_translation` and the like, whose values data decide: they are tested with their task.
NAMES = sorted(
    path.stem
    for path in Path(pipelines.configs.__path__[0]).glob("*.py")
    if not path.stem.startswith(("_", "my_", "pretrained_"))
)
SPLITS = {"train", "validation", "test"}
DATA_KEYS = {
    "embedded": set(),
    "files": {"folder"} | SPLITS,
    "tsv": {"folder", "columns"} | SPLITS,
    "tfds": {"name", "data_dir", "languages", "download"} | SPLITS,
    "digits": set(),
    "folder": {"folder", "channels", "examine"} | SPLITS,
}
WORKERS = Workers(tf.distribute.get_strategy())
SENTENCES = ["der Hund schläft", "die Hunde schlafen", "the dog sleeps", "the dogs sleep"]


def module(name):
    return importlib.import_module(f"pipelines.configs.{name}")


def load(name):
    return module(name).get_config()


def default_of(name):
    return TASKS[load(name).task].default_config()


def model_of(config):
    """Returns the class of the model that a config names, and its variants."""
    if config.task != "translation":
        return VisionTransformer, vit_variants.VARIANTS
    return MODELS.of(config).model, MODELS.of(config).model.VARIANTS


def through_json(config):
    return ml_collections.ConfigDict(json.loads(config.to_json()))


def test_the_shipped_configs_are_these():
    words = {"demo_translation", "multi30k_en_de", "multi30k_rnn", "ted_pt_en"}
    words |= {"wmt14_en_de_base", "wmt14_en_de_big"}
    pixels = {"demo_digits", "cifar10_cpu", "cifar10_vit", "cifar10_cct", "cifar10_deit"}
    pixels |= {"cifar10_finetune_high_resolution", "cifar10_zoo", "cifar100_vit"}
    pixels |= {"imagenet_vit_s16", "demo_mae", "cifar10_mae"}
    pixels |= {"cifar10_mae_finetune", "cifar10_mae_scratch"}
    pixels |= {"demo_dino", "cifar10_dino", "cifar10_dino_probe"}
    assert words | pixels == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
class EveryConfigTest:
    def test_its_docstring_has_the_command_that_runs_it(self, name):
        assert f"`python -m apps.train --config={name} " in module(name).__doc__

    def test_it_survives_json(self, name):
        config = load(name)
        again = through_json(config)
        assert again.to_json() == config.to_json()
        assert through_json(again).to_dict() == again.to_dict()

    def test_its_keys_are_those_that_are_read(self, name):
        config, default = load(name), default_of(name)
        assert config.keys() == default.keys()
        assert set(default.data) <= set(config.data)
        assert set(config.data) <= set(default.data) | DATA_KEYS[config.data.format]
        known = set(inspect.signature(model_of(config)[0]).parameters)
        assert set(config.model) <= {"variant", "name"} | known

    def test_it_contradicts_neither_itself_nor_the_programs(self, name):
        config = load(name)
        preparation.check(TASKS[config.task], config, WORKERS)

    def test_its_model_is_made_of_its_arguments(self, name):
        config = load(name)
        arguments = config.model.to_dict()
        variant, (model_class, variants) = arguments.pop("variant"), model_of(config)
        count = {"vocabulary_size": 29} if config.task == "translation" else {"num_classes": 7}
        model = model_class.from_variant(variant, **count, **arguments)
        found = model.get_config()
        for key, value in (variants[variant] | arguments).items():
            assert key == "stem" or found[key] == value


# The others are of the published sizes, whose parameters are counted where the model is tested.
@pytest.mark.parametrize("name", ["demo_translation", "multi30k_rnn", "ted_pt_en"])
def test_a_small_model_is_built_from_its_config(name, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(
        train_sentencepiece(SENTENCES, 23, byte_fallback=False)
    )
    config = load(name)
    model = translation.build(config, str(tmp_path))
    ids = tf.constant([[5, 7, 11, 2]])
    loss, tokens = translation.loss(
        model, {"source": ids, "target": ids[:, :3], "labels": ids[:, 1:]}, config
    )
    assert int(tokens) == 3 and float(loss) > 0


class DemoTest:
    def test_its_data_are_at_hand(self):
        for split in SPLITS:
            assert len(pairs.read_pairs(load("demo_translation").data, split)) > 100


class Multi30kTest:
    @pytest.mark.parametrize(("text", "is_tokenized"), [("tok", True), ("raw", False)])
    def test_it_reads_the_files_below_kerasformer_data(
        self, tmp_path, monkeypatch, text, is_tokenized
    ):
        monkeypatch.setenv("KERASFORMER_DATA", str(tmp_path))
        config = module("multi30k_en_de").get_config(text)
        assert config.data.is_tokenized is is_tokenized
        with pytest.raises(ValueError, match=f"{tmp_path}/multi30k/{text}/train"):
            pairs.read_pairs(config.data, "train")

    def test_the_folder_may_be_given(self, tmp_path):
        config = load("multi30k_en_de")
        config.data.folder = str(tmp_path)
        (tmp_path / "tok").mkdir()
        for language in ("en", "de"):
            name = f"tok/test_2016_flickr.lc.norm.tok.{language}"
            (tmp_path / name).write_text(f"text in {language}\n")
        assert pairs.read_pairs(config.data, "test") == [("text in en", "text in de")]

    def test_without_the_variable_it_is_named(self, monkeypatch):
        monkeypatch.delenv("KERASFORMER_DATA", raising=False)
        with pytest.raises(ValueError, match="KERASFORMER_DATA"):
            pairs.read_pairs(load("multi30k_en_de").data, "train")

    def test_another_text_is_one_sentence(self):
        with pytest.raises(ValueError, match="Expected .*:tok or :raw, received 'cooked'"):
            module("multi30k_en_de").get_config("cooked")


class Wmt14Test:
    @pytest.mark.parametrize(("name", "hidden_dim"), [("base", 512), ("big", 1024)])
    def test_the_learning_rate_is_that_of_the_paper(self, name, hidden_dim):
        schedule = settings.SCHEDULES["inverse_square_root"](load(f"wmt14_en_de_{name}").train)
        paper = Noam(hidden_dim, warmup_steps=4000)
        for step in (0, 7, 3999, 100_003):
            assert float(schedule(step)) == pytest.approx(float(paper(step)), rel=1e-5)

    @pytest.mark.parametrize(("name", "last", "dropout"), [("base", 5, 0.1), ("big", 20, 0.3)])
    def test_averaging_search_and_dropout_are_those_of_the_paper(self, name, last, dropout):
        config = load(f"wmt14_en_de_{name}")
        assert (config.weights, config.train.keep_checkpoints) == ("average", last)
        assert (config.decode.beam_size, config.decode.alpha) == (4, 0.6)
        assert model_of(config)[1][config.model.variant]["dropout"] == dropout
        assert config.train.label_smoothing == 0.1
