"""Items of a shared-memory queue, each as an array of its own."""

from __future__ import annotations

import numpy as np

from shm.layout import QUEUE
from shm.queue import QueueConsumer
from shm.words import Words


def pop_new(consumer: QueueConsumer) -> Words | None:
    """The oldest item as a fresh array of one slot, or None."""
    out = np.zeros(max(1, int(consumer.words[QUEUE.slot_words])), np.int64)
    return out if consumer.pop(out) else None
