"""Strategies by name, and what the environment says."""

import json

import pytest
import tensorflow as tf

from pipelines.distribution import strategies

TASK = {"cluster": {"worker": ["localhost:1", "localhost:2"]}, "task": {"type": "worker"}}

FIRST = {"type": "worker", "index": 0}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("TF_CONFIG", "SLURM_STEP_NUM_TASKS", "TPU_NAME"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


class MakeTest:
    @pytest.mark.parametrize("name", ["one", "auto"])
    def test_a_machine_of_one_device_needs_no_strategy(self, name):
        assert strategies.make(name) is tf.distribute.get_strategy()

    @pytest.mark.parametrize(
        "name", ["", "many", "one:2", "mirrored:", "mirrored:x", "mirrored:-2", "multiworker:2"]
    )
    def test_an_unknown_name_is_answered_with_the_known_ones(self, name):
        with pytest.raises(ValueError, match=f"auto, one, mirrored.*received '{name}'"):
            strategies.make(name)

    def test_what_is_not_there_is_one_sentence(self):
        with pytest.raises(ValueError, match="at least 2 GPUs.*found 0; .*mirrored:N"):
            strategies.make("mirrored")
        with pytest.raises(ValueError, match="at least 2 GPUs"):
            strategies.make("mirrored:1")
        with pytest.raises(ValueError, match="TF_CONFIG, or to be started by srun.*local_workers"):
            strategies.make("multiworker")
        with pytest.raises(ValueError, match="Expected a TPU"):
            strategies.make("tpu")

    @pytest.mark.parametrize("text", ["{}", '{"cluster": {}}', '{"cluster": {"worker": []}}'])
    def test_several_processes_of_which_none_is_named_are_an_error(self, environment, text):
        environment.setenv("TF_CONFIG", text)
        with pytest.raises(ValueError, match="TF_CONFIG to name the processes") as caught:
            strategies.make("multiworker")
        assert text in str(caught.value)
        assert strategies.make("auto") is tf.distribute.get_strategy()

    @pytest.mark.parametrize(
        "text",
        [
            "{",
            "[]",
            '{"cluster": {"worker": "localhost:1"}}',
            '{"cluster": {"evaluator": ["localhost:1"]}}',
            json.dumps({"cluster": {"worker": ["a:1", "a:1"]}, "task": FIRST}),
            json.dumps(TASK),
            json.dumps(TASK | {"task": {"type": "worker", "index": 2}}),
            json.dumps(TASK | {"task": {"type": "worker", "index": "a"}}),
            json.dumps(TASK | {"task": {"type": "chief", "index": 0}}),
        ],
    )
    def test_a_wrong_cluster_is_one_sentence(self, environment, text):
        environment.setenv("TF_CONFIG", text)
        with pytest.raises(ValueError, match="Expected TF_CONFIG as .*received") as caught:
            strategies.make()
        assert text in str(caught.value)


class FindTest:
    @pytest.mark.parametrize(
        ("name", "value", "expected"),
        [
            (
                "TF_CONFIG",
                json.dumps(TASK | {"task": FIRST}),
                "multiworker",
            ),
            ("TF_CONFIG", "{}", "one"),
            (
                "TF_CONFIG",
                '{"cluster": {"chief": ["a:1"]}, "task": {"type": "chief", "index": 0}}',
                "one",
            ),
            ("SLURM_STEP_NUM_TASKS", "2", "multiworker"),
            ("SLURM_STEP_NUM_TASKS", "1", "one"),
            ("TPU_NAME", "local", "tpu"),
        ],
    )
    def test_the_environment_decides(self, environment, name, value, expected):
        environment.setenv(name, value)
        assert strategies.find() == expected


class SlurmTest:
    @pytest.mark.parametrize(
        ("rank", "nodes", "tasks", "expected"),
        [
            (1, "localhost", "2", ["localhost:8888", "localhost:8889"]),
            (2, "n[7-9]", "1(x3)", ["n7:8888", "n8:8888", "n9:8888"]),
        ],
    )
    def test_a_step_is_a_cluster(self, environment, rank, nodes, tasks, expected):
        variables = {"PROCID": rank, "STEP_NUM_TASKS": len(expected), "STEP_NODELIST": nodes}
        for name, value in (variables | {"STEP_TASKS_PER_NODE": tasks}).items():
            environment.setenv(f"SLURM_{name}", str(value))
        found = json.loads(strategies.slurm_cluster())
        assert found == {
            "cluster": {"worker": expected},
            "task": {"type": "worker", "index": rank},
        }
