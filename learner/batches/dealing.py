"""The order in which a data set is dealt to updates."""

import random
from collections.abc import Iterator


def shuffled_batches(count: int, size: int, seed: int) -> Iterator[list[int]]:
    """Indices of one batch after another, without end: when all have been dealt they are shuffled and dealt again.

    Args:
        count: items in the data set, at least 1.
        size: of a batch.
        seed: of the order.
    """
    shuffle, queue = random.Random(seed), list[int]()
    while True:
        while len(queue) < size:
            epoch = list(range(count))
            shuffle.shuffle(epoch)
            queue += epoch
        yield queue[:size]
        del queue[:size]
