"""Prepares docstrings for the API reference: what a package exports, and examples as code."""

import re

import griffe

EXAMPLE = re.compile(r"(?:^[ ]*>>> .*\n?)(?:^[ ]*\S.*\n?)*", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Called by mkdocstrings, as `mkdocs.yml` says."""

    def on_module(self, *, mod: griffe.Module, **kwargs) -> None:
        """Exports the names that the face of a package hands on, `from a import X as X`."""
        if mod.is_init_module and mod.exports is None:
            names = [name for name, member in mod.members.items() if member.is_alias]
            if names:
                mod.exports = names

    def on_instance(self, *, obj: griffe.Object, **kwargs) -> None:
        """Fences the examples, which begin with `>>>`, and lists the arguments of calls."""
        if obj.docstring:
            text = obj.docstring.value.replace("Call arguments:\n", "Args: Call arguments\n")
            obj.docstring.value = EXAMPLE.sub(_fence, text)


def _fence(match: re.Match) -> str:
    indent = re.match(" *", match[0])[0]
    return f"{indent}```pycon\n{match[0].rstrip()}\n{indent}```\n"
