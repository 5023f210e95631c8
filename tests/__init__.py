"""The tests, in folders that mirror those of the library and the pipelines."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
