"""Fonts for pictures with the letters of any script, as far as the machine has them."""

import contextlib
import functools
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from kerasformer.explain.words import HAN, KANA

CJK = re.compile(f"[{HAN}{KANA}\u3000-\u303f\uac00-\ud7af\uff00-\uffef]")
INSTALL = {True: "Noto Sans CJK (`apt install fonts-noto-cjk`)", False: "Noto (`fonts-noto`)"}
EVERYTHING = "lastresort"  # in the name of a file: fonts that have a box for each letter
SHOWN = 10  # letters in a sentence
_told: set[bool] = set()  # of which letters, those of the Far East or others, it was said


@contextlib.contextmanager
def fonts_for(texts: Iterable[str]) -> Iterator[None]:
    """Lets matplotlib draw texts with fonts that have their letters.

    A letter that no font of the machine has is a box in the picture, which is said once on standard
    error.

    Args:
        texts: what is drawn within the context.
    """
    import matplotlib

    letters = {letter for text in texts for letter in text if ord(letter) > 127}
    families = _families(frozenset(filter(str.isprintable, letters)))
    with matplotlib.rc_context({"font.family": families} if families else {}):
        yield


@functools.lru_cache(maxsize=64)
def _families(letters):
    """Lists the usual font and those that have letters that it lacks; nothing if it has all."""
    if not letters or not letters - _letters_of(_usual()):
        return []
    from matplotlib import font_manager

    families, missing = [font_manager.get_font(_usual()).family_name], letters
    missing = missing - _letters_of(_usual())
    for path, has in _others().items():
        if missing & has:
            # Matplotlib's own list is older where a font was installed since.
            font_manager.fontManager.addfont(path)
            families.append(font_manager.get_font(path).family_name)
            missing = missing - has
    is_cjk = any(map(CJK.match, missing))
    if missing and is_cjk not in _told:
        _told.add(is_cjk)
        print(
            f"No font here has the letters {''.join(sorted(missing)[:SHOWN])}, which are boxes in "
            f"pictures; a font such as {INSTALL[is_cjk]} has them.",
            file=sys.stderr,
            flush=True,
        )
    return families


def _usual():
    from matplotlib import font_manager

    return font_manager.findfont(font_manager.FontProperties())


@functools.cache
def _others():
    """Lists the fonts of the machine with the letters that they have and the usual one lacks."""
    from matplotlib import font_manager

    usual = _letters_of(_usual())
    paths = sorted(font_manager.findSystemFonts(), key=lambda path: ("CJK" not in path, path))
    paths = [path for path in paths if EVERYTHING not in Path(path).name.lower()]
    return {path: letters for path in paths if (letters := _letters_of(path) - usual)}


def _letters_of(path):
    from matplotlib import font_manager

    try:
        return frozenset(map(chr, font_manager.get_font(path).get_charmap()))
    except (OSError, RuntimeError, ValueError):  # It is damaged, or of another kind.
        return frozenset()
