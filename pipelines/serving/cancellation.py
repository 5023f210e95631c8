"""Work that nobody waits for any more: it is not done, unless it has begun."""

import threading
from collections.abc import Callable

from prometheus_client import Counter

CANCELLED = Counter(
    "kerasformer_cancelled",
    "Requests that were not computed, because their client hung up or their time was over.",
    ["model"],
    registry=None,  # Each `Metrics` has one of its own.
)


class Cancelled(Exception):
    """Ends work that was cancelled before it began."""


class Cancellation:
    """What a request and the thread that works for it know of each other, safe from any thread."""

    def __init__(self):
        self._lock, self._is_cancelled = threading.Lock(), False
        self._take_back: Callable[[], None] | None = None

    def cancel(self) -> None:
        """Says that nobody waits for the work any more."""
        with self._lock:
            self._is_cancelled = True
            if self._take_back:
                self._take_back()

    def check(self) -> None:
        """Raises `Cancelled` when nobody waits any more."""
        if self._is_cancelled:
            raise Cancelled

    def wait(self, take_back: Callable[[], None] | None) -> None:
        """Says that the work waits somewhere, and how it is taken back from there.

        Args:
            take_back: called at most once, by `cancel`. `None` where the work waits no longer.

        Raises:
            Cancelled: when nobody waits any more.
        """
        with self._lock:
            self._take_back = take_back
            self.check()
