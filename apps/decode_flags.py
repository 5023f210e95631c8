"""The flags of a search, by the names of the keys of `config.decode`.

A program shows them in its `--help` by `flags.adopt_module_key_flags(decode_flags)`.
"""

from typing import Any

from absl import flags

from pipelines.tasks.translation.decode import SEARCH_KEYS, Key

NAMES = tuple(name for name in SEARCH_KEYS if name != "batch_size")  # It changes no answer.


class Parser(flags.ArgumentParser):
    """Reads a value of one of the types of a key; `None` where that is one of them."""

    def __init__(self, key: Key):
        self.key = key
        self.syntactic_help = f"(unset: as the config says; its default: {key.default!r})"

    def parse(self, argument: Any) -> Any:
        kind = self.key.types[0]
        if argument is None or (argument == "None" and type(None) in self.key.types):
            return None
        try:
            return kind(argument)
        except ValueError:
            raise ValueError(f"expected {kind.__name__}, received {argument!r}") from None


for _name in NAMES:
    flags.DEFINE(Parser(SEARCH_KEYS[_name]), _name, None, SEARCH_KEYS[_name].help)


def given() -> dict[str, Any]:
    """Returns the flags that were given, as values by key of the config."""
    values = {name: flags.FLAGS[name].value for name in NAMES if flags.FLAGS[name].present}
    if "beam_size" in values:  # That of the config may be more than these beams.
        values.setdefault("num_hypotheses", None)
    return {f"decode.{name}": value for name, value in values.items()}
