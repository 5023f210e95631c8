"""The side of timm, which is not installed here: it is started, and says what is missing."""

import pytest

from pipelines import vision_benchmark

SIZES = vision_benchmark.Sizes(8, 4, 1, 12, 3, 17, num_classes=5, batch_size=7)


def test_without_timm_the_error_names_the_pip_line_and_what_python_said():
    message = r'pip install "kerasformer\[timm\]".*ModuleNotFoundError: No module named \'timm\''
    with pytest.raises(ImportError, match=message):
        vision_benchmark.timm(SIZES, True, False, "float32")
