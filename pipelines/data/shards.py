"""The part of each batch that a process makes."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Shard:
    """The part of each batch that a process makes.

    Attributes:
        index, count: rows of the process `index` of `count`.
        num_replicas: int. Number of replicas of all processes, which share each batch.
    """

    index: int = 0
    count: int = 1
    num_replicas: int = 1


WHOLE_BATCH = Shard()
