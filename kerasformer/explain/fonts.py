"""Fonts for pictures with the letters of any script, as far as the machine has them."""

import contextlib
import functools
import re
import sys
import types
from collections.abc import Iterable, Iterator
from pathlib import Path

from kerasformer.explain.words import HAN, KANA

CJK = re.compile(f"[{HAN}{KANA}\u3000-\u303f\uac00-\ud7af\uff00-\uffef]")
INSTALL = {True: "Noto Sans CJK (`apt install fonts-noto-cjk`)", False: "Noto (`fonts-noto`)"}
EVERYTHING = "lastresort"  # in the name of a file: fonts that have a box for each letter
SHOWN = 10  # letters in a sentence
TOLD: set[bool] = set()  # of which letters, those of the Far East or others, it was said


def require_matplotlib() -> types.ModuleType:
    """Returns matplotlib with its fonts and figures.

    Raises:
        ImportError: where it is missing, with the line that installs it.
    """
    try:
        import matplotlib
        import matplotlib.figure
        import matplotlib.font_manager
    except ImportError as error:
        raise ImportError(
            'Pictures need matplotlib, which comes with `pip install "kerasformer[pipelines]"`.'
        ) from error
    return matplotlib


@contextlib.contextmanager
def fonts_for(texts: Iterable[str]) -> Iterator[None]:
    """Lets matplotlib draw texts with fonts that have their letters.

    A letter that no font of the machine has is a box in the picture, which is said once on standard
    error.

    Args:
        texts: what is drawn within the context.
    """
    letters = {letter for text in texts for letter in text if ord(letter) > 127}
    families = font_families(frozenset(filter(str.isprintable, letters)))
    with require_matplotlib().rc_context({"font.family": families} if families else {}):
        yield


@functools.lru_cache(maxsize=64)
def font_families(letters: frozenset[str]) -> list[str]:
    """Lists the usual font and those that have letters that it lacks; nothing if it has all.

    Args:
        letters: characters.

    Returns:
        Names of families, for matplotlib's `font.family`.
    """
    manager = require_matplotlib().font_manager
    usual = manager.findfont(manager.FontProperties())
    missing = letters - _letters_of(manager, usual) if letters else letters
    if not missing:
        return []
    families = [manager.get_font(usual).family_name]
    for path, has in other_fonts(usual).items():
        if missing & has:
            # Matplotlib's own list is older where a font was installed since.
            manager.fontManager.addfont(path)
            families.append(manager.get_font(path).family_name)
            missing = missing - has
    is_cjk = any(map(CJK.match, missing))
    if missing and is_cjk not in TOLD:
        TOLD.add(is_cjk)
        print(
            f"No font here has the letters {''.join(sorted(missing)[:SHOWN])}, which are boxes in "
            f"pictures; a font such as {INSTALL[is_cjk]} has them.",
            file=sys.stderr,
            flush=True,
        )
    return families


@functools.cache
def other_fonts(usual: str) -> dict[str, frozenset[str]]:
    """Lists the fonts of the machine with the letters that they have and the usual one lacks.

    Args:
        usual: path of the usual font.

    Returns:
        Dict of the letters by the path of a font.
    """
    manager = require_matplotlib().font_manager
    known = _letters_of(manager, usual)
    # Fonts of the Far East first, because what is missing is mostly theirs.
    paths = sorted(manager.findSystemFonts(), key=lambda path: ("CJK" not in path, path))
    paths = [path for path in paths if EVERYTHING not in Path(path).name.lower()]
    return {path: letters for path in paths if (letters := _letters_of(manager, path) - known)}


def _letters_of(manager, path):
    try:
        return frozenset(map(chr, manager.get_font(path).get_charmap()))
    except (OSError, RuntimeError, ValueError):  # It is damaged, or of another kind.
        return frozenset()
