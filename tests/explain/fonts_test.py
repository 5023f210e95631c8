"""Fonts for the letters of any script: found where one is installed, else said once."""

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure

from kerasformer.explain import fonts
from kerasformer.explain.pictures import save_figure


def make_font(path, letters):
    """Makes a font in which each of some letters is a black square."""
    pen = TTGlyphPen(None)
    for point, draw in zip(((0, 0), (0, 900), (900, 900), (900, 0)), "mlll", strict=True):
        (pen.moveTo if draw == "m" else pen.lineTo)(point)
    pen.closePath()
    names = [".notdef", "square"]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): "square" for letter in letters})
    builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The fonts of a machine: one with two letters, one that is damaged."""
    make_font(tmp_path / "squares.ttf", "我茶")
    (tmp_path / "damaged.ttf").write_bytes(b"\0" * 100)
    paths = [str(path) for path in sorted(tmp_path.iterdir())]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: paths)
    monkeypatch.setattr(fonts, "_told", set())
    caches = (fonts._others, fonts._families)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def draw(text):
    figure = Figure()
    with fonts.fonts_for([text]):
        figure.text(0.5, 0.5, text)
    return figure


class FontsTest:
    def test_letters_are_drawn_with_a_font_that_has_them(self, installed, tmp_path, capsys):
        figure = draw("a 我 é")
        assert figure.texts[0].get_fontfamily() == ["DejaVu Sans", "Squares"]
        figure.savefig(tmp_path / "a.png")  # Warnings are errors.
        assert draw("tea, thé").texts[0].get_fontfamily() == draw("tea").texts[0].get_fontfamily()
        assert capsys.readouterr().err == ""

    def test_letters_that_no_font_has_are_said_once(self, installed, tmp_path, capsys):
        for text in ("我喜欢茶", "喜", "欢"):
            save_figure(draw(text), tmp_path / "a.png")
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "letters 喜欢, " in said and "fonts-noto-cjk" in said
        with pytest.warns(UserWarning, match="Glyph"):  # Which the pictures of a run do without.
            draw("喜").savefig(tmp_path / "b.png")
