"""The tasks by name, and what every program does to load one."""

import tensorflow as tf

from pipelines import classification, translation

TASKS = {"translation": translation, "classification": classification}


def find(name: str):
    """Returns the task of that name, or raises a `ValueError` that lists the tasks."""
    if name not in TASKS:
        raise ValueError(f"Expected config.task to be one of {sorted(TASKS)}, received {name!r}.")
    return TASKS[name]


def mirrored_strategy(replicas: int) -> tf.distribute.Strategy | None:
    """Makes a strategy over the first devices, or `None` for one.

    Raises:
        ValueError: when the machine has fewer devices.
    """
    if replicas == 1:
        return None
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) < replicas:
        raise ValueError(f"Expected at least replicas={replicas} devices, received {len(devices)}.")
    return tf.distribute.MirroredStrategy([device.name for device in devices[:replicas]])
