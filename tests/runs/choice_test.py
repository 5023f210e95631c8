"""The values that a task chooses in place of "auto"."""

import ml_collections

from pipelines.runs.choice import AUTO, Choice, has_auto


class ChoiceTest:
    def test_what_is_auto_is_set_and_told_and_the_rest_stays(self, capsys):
        parts = {"data": {"train": AUTO, "test": "mine", "held_out": AUTO}, "model": {"size": AUTO}}
        config = ml_collections.ConfigDict(parts, type_safe=False)
        assert has_auto(config, ["data.test", "model.size"])
        assert not has_auto(config, ["data.test", "data.absent"])
        choice = Choice(config)
        choice.take({"data.train": "a", "data.test": "b", "data.absent": 3, "model.size": (2, 3)})
        choice.take({"data.absent": 5, "data.train": "c", "data.held_out": None}, adds=True)
        data = {"train": "a", "test": "mine", "held_out": None, "absent": 5}
        assert config.to_dict() == {"data": data, "model": {"size": (2, 3)}}
        choice.tell("7 pairs")
        said = "Chosen for 7 pairs: data.train='a', model.size=(2, 3), data.absent=5\n"
        assert capsys.readouterr().out == said
