"""Config files and flags: what a key may be set to, and what is refused."""

import pytest

from pipelines.runs.config_file import (
    check_types,
    load_config,
    override,
    overrides_first,
    parse,
)
from pipelines.tasks import classification, translation

FILE = """
import ml_collections

def get_config(text="none"):
    config = ml_collections.ConfigDict({"task": text, "steps": 7, "epochs": None}, type_safe=False)
    return config.lock()
"""


class OverridesFirstTest:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["--config.a=1", "--x=2"], ["--override=a=1", "--x=2"]),
            (["-config.a.b", "-c=1=2", "--x"], ["--override=a.b=True", "-c=1=2", "--x"]),
            (["--config.a", "7", "--config", "demo"], ["--override=a=7", "--config", "demo"]),
            (
                ["--config.a", "-0.1", "--config.b", "-x"],
                ["--override=a=-0.1", "--override=b=True", "-x"],
            ),
            (["--noconfig.a", "7"], ["--override=a=False", "7"]),
            (["--config.a==\n="], ["--override=a==\n="]),
            (["--config=a.py", "--configs.a=1"], ["--config=a.py", "--configs.a=1"]),
        ],
    )
    def test_a_key_of_the_config_becomes_a_flag_of_its_own(self, arguments, expected):
        assert overrides_first(arguments) == expected


class ParseTest:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("7", 7),
            ("-1e-3", -0.001),
            ("true", True),
            ("None", None),
            ("(24, 40)", (24, 40)),
            ("24,40", (24, 40)),
            ("['a', 'b']", ["a", "b"]),
            ("train.en, train.de", ("train.en", "train.de")),
            ("train[:80%]", "train[:80%]"),
            ("'a,b'", "a,b"),
            ("", ""),
            ("5%", "5%"),
            ("import os", "import os"),
            ("{1, 2}", "{1, 2}"),
        ],
    )
    def test_text_is_read_as_python_writes_it_or_stays_text(self, text, value):
        found = parse(text)
        assert found == value and type(found) is type(value)


class OverrideTest:
    def test_parts_that_are_not_locked_take_new_keys(self):
        config = classification.default_config()
        override(config, "model.dropout", "0.3")
        override(config, "data.train", "a,b")
        assert (config.model.dropout, config.data.train) == (0.3, ("a", "b"))

    @pytest.mark.parametrize(("text", "value"), [("my,photos", "my,photos"), ("2024", "2024")])
    def test_the_name_of_a_folder_stays_as_it_is(self, text, value):
        config = classification.default_config()
        override(config, "data.folder", text)
        assert config.data.folder == value

    def test_images_may_have_labels_called_none(self):
        config = classification.default_config()
        override(config, "data.labels", "none")
        override(config, "data.classes", "none")
        assert (config.data.labels, config.data.classes) == ("none", None)

    def test_a_number_may_take_the_place_of_a_share(self):
        config = classification.default_config()
        config.train.warmup_steps = "15%"
        override(config, "train.warmup_steps", "11")
        assert config.train.warmup_steps == 11

    @pytest.mark.parametrize(
        ("key", "expected"),
        [
            ("train.stepz", "no key train.stepz; did you mean train.steps"),
            ("nothing.at.all", "no key nothing.at.all"),
            ("train.steps.more", "no key train.steps.more"),
            ("train", r"Expected a key such as train\.\w+, received train=7"),
        ],
    )
    def test_another_key_is_refused_with_a_similar_one(self, key, expected):
        with pytest.raises(ValueError, match=expected):
            override(classification.default_config(), key, "7")


class LoadConfigTest:
    def test_a_file_gets_text_and_overrides_of_which_one_takes_the_place_of_another(self, tmp_path):
        (tmp_path / "mine.py").write_text(FILE)
        either = {"steps": "epochs", "epochs": "steps"}
        config = load_config("mine:words", tmp_path, ["epochs=3"], either)
        assert config.to_dict() == {"task": "words", "steps": None, "epochs": 3}
        both = ["epochs=3", "steps=5"]
        config = load_config(str(tmp_path / "mine.py"), "nowhere", both, either)
        assert config.to_dict() == {"task": "none", "steps": 5, "epochs": 3}


def changed(key, value, task=translation):
    config = task.default_config()
    part, _, name = key.rpartition(".")
    (config[part] if part else config)[name] = value
    return config


class CheckTypesTest:
    @pytest.mark.parametrize(
        ("key", "value", "expected"),
        [
            ("train.batch_tokens", 7.0, 7),
            ("train.learning_rate", 1, 1.0),
            ("augment.interpolations", ["bicubic"], ("bicubic",)),
            ("data.max_ratio", None, None),
            ("data.train", ("a.tsv",), ("a.tsv",)),
            ("data.train", "a.tsv", "a.tsv"),
            ("model.image_size", (24, 40), (24, 40)),
            ("train.warmup_steps", "5%", "5%"),
            ("decode.length_penalty", None, None),
        ],
    )
    def test_values_that_mean_the_same_are_taken(self, key, value, expected):
        task = classification if key.split(".")[0] in ("augment", "model") else translation
        config = changed(key, value, task)
        check_types(config, task.default_config(), ["train.warmup_steps"])
        found = config[key.split(".")[0]][key.split(".")[1]]
        assert found == expected and type(found) is type(expected)

    @pytest.mark.parametrize(
        ("key", "value", "kind"),
        [
            ("seed", "one", "a whole number"),
            ("train.batch_tokens", 7.5, "a whole number"),
            ("train.batch_tokens", True, "a whole number"),
            ("train.learning_rate", "0.1", "a number"),
            ("train.jit_compile", 1, "True or False"),
            ("train.schedule", 7, "text"),
            ("data.is_tokenized", "no", "True or False"),
            ("data.max_words", "many", "a number|a whole number"),
            ("decode", 7, "an object of keys"),
        ],
    )
    def test_others_are_one_sentence(self, key, value, kind):
        with pytest.raises(ValueError, match=f"^Expected .*({kind}).*{key}={value!r}"):
            check_types(changed(key, value), translation.default_config())
