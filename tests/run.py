"""Runs one test file under pytest; `main` of every `py_test` in BUILD."""

import sys

import pytest

if __name__ == "__main__":
    code = pytest.main(["-c", "setup.cfg", "-p", "no:cacheprovider", *sys.argv[1:]])
    # Other targets run the tests of a file that has nothing but slow ones.
    sys.exit(0 if code == pytest.ExitCode.NO_TESTS_COLLECTED else code)
