"""What the tests of the benchmarks share."""

import pytest

from pipelines.benchmarks import turns


@pytest.fixture(autouse=True)
def no_rest(monkeypatch):
    """Lets one call follow the other at once, because no test compares the speed of threads."""
    monkeypatch.setattr(turns, "REST", 0.0)
