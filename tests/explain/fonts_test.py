"""Fonts for the letters of any script: found where one is installed, else said once."""

import shutil
from pathlib import Path

import matplotlib
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure

from kerasformer.explain import fonts
from kerasformer.explain.pictures import save_figure

EVERY_LETTER = "fonts/ttf/LastResortHE-Regular.ttf"  # A font of matplotlib's, of boxes.


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Makes a machine have some fonts alone, and forget what it knew."""

    def install(*paths):
        monkeypatch.setattr(font_manager, "findSystemFonts", lambda: list(map(str, paths)))

    monkeypatch.setattr(fonts, "TOLD", set())
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [*font_manager.fontManager.ttflist])
    for cached in (fonts.other_fonts, fonts.font_families):
        cached.cache_clear()
    yield install
    for cached in (fonts.other_fonts, fonts.font_families):
        cached.cache_clear()


def draw(text):
    figure = Figure()
    with fonts.fonts_for([text]):
        figure.text(0.5, 0.5, text)
    return figure


class FontsTest:
    def test_letters_are_drawn_with_a_font_that_has_them(self, install, tmp_path, capsys):
        (tmp_path / "damaged.ttf").write_bytes(b"\0" * 100)
        shutil.copy(Path(matplotlib.get_data_path(), EVERY_LETTER), tmp_path / "mine.ttf")
        install(tmp_path / "damaged.ttf", tmp_path / "mine.ttf")
        figure = draw("a 我 é")
        usual, mine = figure.texts[0].get_fontfamily()
        assert (usual, mine) == ("DejaVu Sans", "Last Resort High-Efficiency")
        figure.savefig(tmp_path / "a.png")  # Warnings are errors.
        assert (
            draw("tea, thé").texts[0].get_fontfamily() == Figure().text(0, 0, "").get_fontfamily()
        )
        assert capsys.readouterr().err == ""

    def test_letters_that_no_font_has_are_said_once(self, install, tmp_path, capsys):
        install(Path(matplotlib.get_data_path(), EVERY_LETTER))  # By its name it has boxes alone.
        for text in ("我喜欢茶", "喜", "欢"):
            save_figure(draw(text), tmp_path / "a.png")
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "letters 喜我欢茶, " in said and "fonts-noto-cjk" in said
        with pytest.warns(UserWarning, match="Glyph"):  # Which the pictures of a run do without.
            draw("喜").savefig(tmp_path / "b.png")
