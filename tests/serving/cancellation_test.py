"""Work that is cancelled before, while and after it waits; `endpoint_test` has it in a queue."""

import pytest

from pipelines.serving.cancellation import Cancellation, Cancelled


class CancellationTest:
    def test_work_that_waits_is_taken_back_once(self):
        cancellation, taken = Cancellation(), []
        cancellation.check()
        cancellation.wait(lambda: taken.append(1))
        cancellation.cancel()
        assert taken == [1]
        with pytest.raises(Cancelled):
            cancellation.check()
        with pytest.raises(Cancelled):
            cancellation.wait(None)

    def test_work_that_waits_no_longer_is_not_taken_back(self):
        cancellation, taken = Cancellation(), []
        cancellation.wait(lambda: taken.append(1))
        cancellation.wait(None)
        cancellation.cancel()
        assert taken == []
