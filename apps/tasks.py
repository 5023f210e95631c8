"""The tasks by name, and what every program does to load one."""

from pipelines.tasks import classification, masked_images, self_distillation, translation
from pipelines.training.task import Task

TASKS: dict[str, Task] = {
    "translation": translation,
    "classification": classification,
    "masked_images": masked_images,
    "self_distillation": self_distillation,
}


def find(name: str) -> Task:
    """Returns the task of that name, or raises a `ValueError` that lists the tasks."""
    if name not in TASKS:
        raise ValueError(f"Expected config.task to be one of {sorted(TASKS)}, received {name!r}.")
    return TASKS[name]
