"""Programs to run from a checkout: `python -m apps.train`, `python -m apps.predict` and so on.

`python -m` imports this package before any program. So TensorFlow is loaded here, without the notes
on oneDNN and CUDA that it writes when it starts; set `TF_CPP_MIN_LOG_LEVEL=0` to read them. Ctrl-C
ends a program that is still loading.
"""

import contextlib
import os
import sys


@contextlib.contextmanager
def silent_stderr():
    """Discards what Python and C++ write to standard error."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


# TensorFlow logs much as an error that is none, and raises real errors in Python too. The notes of
# its first seconds ignore the level.
quiet = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") >= "2"
try:
    with silent_stderr() if quiet else contextlib.nullcontext():
        import tensorflow as tf

        tf.config.list_physical_devices()
except KeyboardInterrupt:
    sys.exit(130)
except ImportError as error:
    raise ImportError(
        'The programs need TensorFlow, which comes with `pip install "kerasformer[pipelines]"`.'
    ) from error
