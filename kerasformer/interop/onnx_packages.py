"""The packages of ONNX, none of which the rest of the library needs."""

import os
import sys
from types import ModuleType
from typing import NamedTuple

INSTALL = 'ONNX needs onnx, tf2onnx and onnxruntime: `pip install "kerasformer[onnx]"`.'
INSTALL_TOKENIZERS = (
    'Tokenizers in ONNX need onnxruntime-extensions: `pip install "kerasformer[onnx]"`.'
)


class Packages(NamedTuple):
    """What writes ONNX models, by the names of the modules."""

    onnx: ModuleType
    tf2onnx: ModuleType
    quantization: ModuleType  # of onnxruntime


def writers() -> Packages:
    """Imports what writes ONNX models.

    Raises:
        ImportError: where a package is missing.
    """
    try:
        import onnx
        import tf2onnx
        from onnxruntime import quantization
    except ImportError as error:
        raise ImportError(INSTALL) from error
    return Packages(onnx, tf2onnx, quantization)


def runtime() -> ModuleType:
    """Imports ONNX Runtime.

    Raises:
        ImportError: where it is missing.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(INSTALL) from error
    return onnxruntime


def tokenizer_library() -> str:
    """Loads the operations of onnxruntime-extensions and returns the path of their library.

    Raises:
        ImportError: where it is missing.
    """
    flags = sys.getdlopenflags()
    # TensorFlow shows its symbols to libraries that are loaded after it. This one must use its
    # own, of other versions of protobuf and SentencePiece: else the process ends.
    sys.setdlopenflags(flags | getattr(os, "RTLD_DEEPBIND", 0))
    try:
        import onnxruntime_extensions
    except ImportError as error:
        raise ImportError(INSTALL_TOKENIZERS) from error
    finally:
        sys.setdlopenflags(flags)
    return onnxruntime_extensions.get_library_path()
