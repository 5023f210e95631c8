"""Runs one test file under pytest; `main` of every `py_test` in BUILD."""

import sys

import pytest

if __name__ == "__main__":
    sys.exit(pytest.main(["-c", "setup.cfg", "-p", "no:cacheprovider", *sys.argv[1:]]))
