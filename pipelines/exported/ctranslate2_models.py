"""Folders for CTranslate2 as `apps.predict` finds and loads them."""

import os
from pathlib import Path

from kerasformer.interop.ctranslate2_translator import CTranslate2Translator
from pipelines.exported.models import Model, versions

FILE = "model.bin"


def is_for_ctranslate2(folder: str | os.PathLike) -> bool:
    """Tests whether a folder, or a numbered folder in it, is one for CTranslate2."""
    return bool(versions(Path(folder), FILE))


class CTranslate2Model(Model):
    """A translator that CTranslate2 runs, called by the signatures of a SavedModel.

    Args:
        folder: path of what an export wrote, or of the folder of its numbered versions.

    Raises:
        ImportError: where CTranslate2 is missing.
        ValueError: when a file is missing or cannot be read.
    """

    def __init__(self, folder: str | os.PathLike):
        numbered = versions(Path(folder), FILE)
        newest = numbered[max(numbered)]
        super().__init__(newest, CTranslate2Translator(newest))

    def call(self, name: str, **texts: list[str]) -> dict:
        """Calls a signature with sentences and returns its outputs as NumPy arrays."""
        return self.signatures[name](**texts)
