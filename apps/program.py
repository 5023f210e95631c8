"""How every program starts and ends: flags are parsed, and a user's mistake is one line of text.

The exit code is 0, 1 for an error while running, 2 for an invalid flag, 130 after Ctrl-C, and 141
when nobody reads the output any more, as in `python -m apps.predict ... | head`. An error of the
project itself keeps its stack trace; `--verbosity=1` shows it for every error.
"""

import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import tensorflow as tf
from absl import app, flags, logging

from pipelines.error_sentence import sentence

# Raised for a user's mistake, or by their disk; anything else is an error of this project.
USER_ERRORS = (
    ValueError,
    OSError,
    FloatingPointError,
    ImportError,
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
    tf.errors.ResourceExhaustedError,
    tf.errors.DataLossError,
)
INTERRUPTED, CLOSED_PIPE = 128 + 2, 128 + 13  # as shells count: 128 plus the signal


def run(
    main: Callable[[Sequence[str]], int | None],
    rewrite: Callable[[Sequence[str]], Sequence[str]] = list,
) -> NoReturn:
    """Parses the flags, calls `main(argv)` with the arguments that are left, and exits.

    Flags must be defined by then. `USER_ERRORS` become the line `error: ...` on standard error
    and exit code 1.

    Args:
        main: function of the list of program name and arguments. What it returns is the exit
            code, `None` for 0.
        rewrite: function from the given arguments to those that are parsed.
    """

    def guarded(argv: Sequence[str]) -> int | None:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)
            tf.get_logger().setLevel("WARNING")
        try:
            code = main(argv)
            sys.stdout.flush()
            return code
        except KeyboardInterrupt:
            return INTERRUPTED
        except BrokenPipeError:
            _close_stdout()
            return CLOSED_PIPE
        except flags.Error as error:  # of what a flag names, such as a config
            _complain_of_flags(error)
        except USER_ERRORS as error:
            logging.debug("This is where it happened:", exc_info=True)
            _close_stdout()
            _complain(error)
            return 1

    app.run(guarded, flags_parser=lambda argv: _parse(argv, rewrite))


def _complain(error: BaseException) -> None:
    print(f"error: {sentence(error)}", file=sys.stderr, flush=True)


def _close_stdout() -> None:
    """Flushes standard output, and keeps Python from complaining at exit if that fails."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain_of_flags(error: BaseException) -> NoReturn:
    _complain(error)
    print("Pass --help to see the flags.", file=sys.stderr)
    sys.exit(2)


def _parse(argv: Sequence[str], rewrite: Callable) -> list[str]:
    try:
        return flags.FLAGS(rewrite(argv))
    except flags.Error as error:
        _complain_of_flags(error)
