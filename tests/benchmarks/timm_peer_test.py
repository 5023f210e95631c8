"""The side of timm: it is a process of its own, and says what is missing or went wrong."""

import pytest

from pipelines.benchmarks import vision

SIZES = vision.Sizes(8, 4, 1, 12, 3, 17, num_classes=5, batch_size=7)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("import not_installed", ImportError),
        ("raise ZeroDivisionError('of three')", RuntimeError),
    ],
)
def test_a_process_that_ends_at_once_says_why(tmp_path, monkeypatch, line, expected):
    (tmp_path / "timm.py").write_text(line)  # What Python finds before any timm.
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    message = "No module named 'not_installed'|timm ended: ZeroDivisionError: of three"
    with pytest.raises(expected, match=message) as caught:
        vision.timm(SIZES, True, False, "float32")
    if expected is ImportError:
        assert 'pip install "kerasformer[timm]"' in str(caught.value)
