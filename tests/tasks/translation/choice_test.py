"""Own sentence pairs, from files to a translation by one command without a config file."""

import re

import numpy as np
import pytest
import tensorflow as tf

import pipelines.configs
from pipelines.distribution.workers import Workers
from pipelines.runs.config import read_config
from pipelines.runs.config_file import load_config
from pipelines.runs.weights import load_model
from pipelines.tasks import translation
from pipelines.tasks.translation.vocabulary import load_tokenizers
from pipelines.text.pairs import read_pairs
from pipelines.training import preparation, settings
from tests import own_words, programs

SMALL = ["model.num_layers=1", "model.hidden_dim=16", "model.num_heads=2", "train.steps=2"]


def load(folder, *overrides):
    overrides = [f"data.folder={folder}", *overrides]
    folder = pipelines.configs.__path__[0]
    return load_config("my_translation", folder, overrides, settings.EITHER)


def command(folder, *overrides):
    keys = [f"--config.{text}" for text in (f"data.folder={folder}", *SMALL, *overrides)]
    return ["train", "--config=my_translation", "--workdir=run", *keys]


class KindsTest:
    @pytest.mark.parametrize("kind", own_words.KINDS, ids=lambda kind: kind.__name__)
    def test_each_kind_of_own_words_becomes_batches(self, tmp_path, kind, capsys):
        pairs = kind(tmp_path)
        workers = Workers(tf.distribute.get_strategy())
        config = preparation.choose(translation, load(tmp_path), str(tmp_path), workers)
        preparation.check(translation, config, workers)
        data = translation.datasets(config, str(tmp_path))
        said = capsys.readouterr().out
        assert f"Chosen for {len(read_pairs(config.data, 'train'))} training pairs: " in said
        assert f"tokenizer.vocabulary_size={config.tokenizer.vocabulary_size}" in said
        assert "0 of " in said and "validation pairs are in train too" in said
        assert "'auto'" not in config.to_json()
        source, target = load_tokenizers(str(tmp_path))
        batch = next(iter(data.train(0)))
        found = zip(
            source.decode(batch["source"].numpy()),
            target.decode(batch["labels"].numpy()),
            strict=True,
        )
        assert {pair for pair in found if any(pair)} <= set(pairs)


@pytest.fixture(scope="module")
def chinese(tmp_path_factory):
    """A folder with English and Chinese, and a run on it by the command of a user."""
    folder = tmp_path_factory.mktemp("chinese")
    own_words.chinese(folder)
    (done,) = programs.run(command(folder), folder=folder)
    assert done.returncode == 0, done.stderr
    assert "data.languages=('en', 'zh')" in done.stdout
    return folder


@pytest.mark.integration
class ChineseTest:
    def test_files_become_a_translator_that_is_scored_as_chinese(self, chinese):
        config, run = read_config(chinese / "run"), str(chinese / "run")
        config.decode.update(beam_size=1, num_hypotheses=1)
        model = load_model(translation.build, config, run, "last")
        module = translation.serving(model, config, run)
        scores = translation.evaluate(module, config, "test").scores
        assert scores["sentences"] == 7 and "tok:zh" in scores["signature"]

    def test_the_same_command_resumes_and_another_direction_is_refused(self, chinese):
        commands = command(chinese), command(chinese, "data.languages=zh,en")
        again, turned = programs.run(*commands, folder=chinese)
        assert again.returncode == 0, again.stderr
        assert "Resuming from step 2" in again.stdout and "Chosen" not in again.stdout
        assert turned.returncode == 1
        assert "holds a run with data.languages=['en', 'zh']" in turned.stderr


@pytest.mark.integration
class StartTest:
    def begin(self, chinese, folder, *overrides):
        """Starts a run on other pairs with what the run on Chinese has learned."""
        own_words.spreadsheet(folder)
        config = load(folder, f"start.workdir={chinese}/run", *overrides)
        config = translation.resolve(config)
        translation.check(config)
        translation.datasets(config, str(folder))
        model = translation.build(config, str(folder))
        return [translation.begin(model, config, str(folder), is_new) for is_new in (False, True)]

    def test_a_run_goes_on_with_weights_tokenizer_and_sizes_of_another(self, chinese, tmp_path):
        _, model = self.begin(chinese, tmp_path, "data.languages=english,chinese")
        config = read_config(chinese / "run")
        first = load_model(translation.build, config, str(chinese / "run"), "last")
        for variable, expected in zip(model.weights, first.weights, strict=True):
            np.testing.assert_array_equal(variable, expected)
        for name in translation.PREPARED[:1]:
            assert (tmp_path / name).read_bytes() == (chinese / "run" / name).read_bytes()

    def test_another_model_is_refused_in_one_sentence(self, chinese, tmp_path):
        sizes = ["model.variant=tiny", "model.hidden_dim=24", "model.num_heads=2"]
        with pytest.raises(ValueError, match=r"start.workdir=.* shape \(\d+, 24\), received .*16"):
            self.begin(chinese, tmp_path, *sizes)

    def test_a_folder_without_a_run_is_named(self, tmp_path):
        with pytest.raises(ValueError, match="absent/run"):
            self.begin(tmp_path / "absent", tmp_path)


class NumbersTest:
    def write(self, folder, count):
        """Writes sentences of ever new words, whose number alone matters here."""
        lines = [
            f"{number:x} word{number % 97} a b c d e f\t{number:o} g" for number in range(count)
        ]
        (folder / "a.tsv").write_text("\n".join(lines))

    def choose(self, folder, *overrides):
        workers = Workers(tf.distribute.get_strategy())
        return preparation.choose(translation, load(folder, *overrides), str(folder), workers)

    def test_sizes_grow_with_the_number_of_pairs(self, tmp_path):
        found = []
        for count in (50, 700, 22_003):
            self.write(tmp_path, count)
            found.append(self.choose(tmp_path))
        held_out = [config.data.held_out for config in found]
        assert held_out == [10, 35, 1000]
        sizes = [config.tokenizer.vocabulary_size for config in found]
        assert sizes == sorted(set(sizes)) and sizes[-1] < 5000
        assert [config.train.epochs for config in found] == [100, 100, 36]
        assert found[1].train.batch_tokens < found[2].train.batch_tokens

    def test_what_is_given_stays(self, tmp_path):
        self.write(tmp_path, 50)
        given = {
            "data.languages": ("en", "th"),
            "data.held_out": 7,
            "tokenizer.vocabulary_size": 291,
            "model.variant": "base",
            "model.dropout": 0.2,
            "train.batch_tokens": 512,
            "train.learning_rate": 0.01,
        }
        texts = [f"{key}={value}" for key, value in given.items()] + ["train.steps=11"]
        config = self.choose(tmp_path, *texts)
        for key, value in given.items():
            part, key = key.split(".")
            assert config[part][key] == value
        assert (config.train.steps, config.train.epochs) == (11, None)
        assert len(read_pairs(config.data, "test")) == 7

    def test_a_table_may_be_given_in_place_of_a_folder(self, tmp_path):
        lines = map("\t".join, own_words.pairs("en", "zh", 70))
        (tmp_path / "t.tsv").write_text("\n".join(lines))
        given = ["data.format=tsv", f"data.train={tmp_path}/t.tsv"]
        with pytest.raises(ValueError, match="data.columns, received data.columns=None"):
            self.choose("", *given)
        config = self.choose("", *given, "data.columns=0,1")
        assert "auto" not in config.data.to_dict().values()
        counts = [len(read_pairs(config.data, split)) for split in ("train", "validation", "test")]
        assert counts == [70 - 2 * 14, 14, 14] and config.data.bleu_tokenizer == "zh"

    def test_another_family_has_variants_and_rates_of_its_own(self, tmp_path):
        self.write(tmp_path, 50)
        config = self.choose(tmp_path, "model.name=recurrent")
        assert (config.model.variant, config.model.dropout) == ("multi30k", 0.3)
        assert (config.train.batch_tokens, config.train.learning_rate) == (1024, 0.001)
        assert self.choose(tmp_path).model.name == "transformer"

    def test_a_given_variant_is_trained_in_the_same_way(self, tmp_path):
        self.write(tmp_path, 50)
        found = [self.choose(tmp_path, *given).model for given in ([], ["model.variant=tiny"])]
        assert found[0].to_dict() == found[1].to_dict()
        assert (found[0].norm_first, found[0].dropout) == (True, 0.3)
        model = self.choose(tmp_path, "model.variant=base", "model.dropout=0.2").model
        assert (model.norm_first, model.dropout) == (True, 0.2)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("data.held_out", "abc"),
            ("data.held_out", 2.5),
            ("data.corpus_weights", 2),
            ("data.corpus_weights", ("a", 1)),
            ("data.corpus_temperature", "abc"),
            ("data.languages", 5),
            ("data.max_words", "abc"),
            ("data.folder", 5),
            ("tokenizer.path", 5),
            ("tokenizer.user_defined_symbols", 5),
            ("tokenizer.character_coverage", "abc"),
            ("tokenizer.target_vocabulary_size", "abc"),
            ("train.batch_tokens", "abc"),
        ],
    )
    def test_a_value_of_a_wrong_type_is_one_sentence(self, tmp_path, key, value):
        sentence = re.escape(f"received {key}={value!r}.")
        self.write(tmp_path, 50)
        part, name = key.split(".")
        workers = Workers(tf.distribute.get_strategy())
        plain, own = translation.default_config(), load(tmp_path)
        plain.train.steps = 1
        for config in (plain, own):
            config[part][name] = value
        with pytest.raises(ValueError, match=f"Expected {key} to be .*{sentence}"):
            preparation.choose(translation, own, str(tmp_path), workers)
        with pytest.raises(ValueError, match=sentence):
            preparation.check(translation, plain, workers)

    def test_a_config_without_auto_is_not_touched_and_its_data_not_read(self):
        config = translation.default_config()
        config.data.format, config.train.precision = "absent", "auto"
        before = config.to_json()
        assert translation.resolve(config).to_json() == before

    @pytest.mark.parametrize(
        ("overrides", "expected"),
        [
            ([], "zh"),
            (["data.languages=en,x"], None),
            (["data.bleu_tokenizer=13a"], "13a"),
            (["data.columns=1,0"], None),
        ],
    )
    def test_without_languages_the_script_decides_how_bleu_counts(
        self, tmp_path, overrides, expected
    ):
        lines = map("\t".join, own_words.pairs("en", "zh", 70))
        (tmp_path / "a.tsv").write_text("\n".join(lines))
        config = self.choose(tmp_path, *overrides)
        assert config.data.get("bleu_tokenizer") == expected

    @pytest.mark.parametrize("folder", ["", "absent"])
    def test_a_folder_that_is_not_there_is_one_sentence(self, tmp_path, folder):
        with pytest.raises(ValueError, match="data.folder"):
            self.choose(tmp_path / folder if folder else "")
