"""The values of a config that the data choose: those that are `"auto"`."""

from collections.abc import Iterable, Mapping
from typing import Any

import ml_collections

AUTO = "auto"


def has_auto(config: ml_collections.ConfigDict, keys: Iterable[str]) -> bool:
    """Tests whether one of some keys, such as `"data.train"`, is `"auto"`."""
    return any(config[part].get(key) == AUTO for part, _, key in (k.partition(".") for k in keys))


class Choice:
    """Sets the values of a config that are `"auto"`, and keeps what it set.

    Args:
        config: ConfigDict that takes values of any type; it is changed.
    """

    def __init__(self, config: ml_collections.ConfigDict):
        self.config = config
        self.made: dict[str, Any] = {}

    def take(self, values: Mapping[str, Any], adds: bool = False) -> None:
        """Sets the keys that are `"auto"`.

        Args:
            values: the value of each key, such as `"data.train"`; others stay as they are.
            adds: bool. Whether keys are set too that the config does not have.
        """
        for name, value in values.items():
            part, _, key = name.partition(".")
            if self.config[part].get(key, AUTO if adds else None) == AUTO:
                self.config[part][key] = value
                if value not in (None, (), ""):
                    self.made[name] = value

    def tell(self, data: str) -> None:
        """Prints what was chosen, and for what data."""
        values = ", ".join(f"{key}={value!r}" for key, value in self.made.items())
        print(f"Chosen for {data}: {values}", flush=True)
