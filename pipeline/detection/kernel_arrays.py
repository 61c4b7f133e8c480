"""The shared (or, in replays and tests, private) words that kernels work on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shm.layout import CURSOR, OPPORTUNITY
from shm.queue import init_queue, queue_words
from shm.words import Words

NOTHING = 1  # length of an array that stands for "there is none"


class Ports(NamedTuple):
    """``feeds``: the arena of feed segments; ``inventory``: the executor's page, or NOTHING = unlimited;
    ``catalogue``: its page (only its version is read), or NOTHING = never changes; ``opps``, ``opps_cursor``: the queue
    to the executor; ``reports``, ``reports_cursor``: the queue back, or NOTHING; ``metrics``: the segment that holds
    the histograms of the settings, or NOTHING."""

    feeds: Words
    inventory: Words
    catalogue: Words
    opps: Words
    opps_cursor: Words
    reports: Words
    reports_cursor: Words
    metrics: Words


def nothing() -> Words:
    """An absent port: zeros of shape (NOTHING,), by whose length kernels know it."""
    return np.zeros(NOTHING, dtype=np.int64)


def private_ports(feeds: Words, *, capacity: int = 1024, inventory: Words | None = None) -> Ports:
    """Ports with queues of ``capacity`` items (a power of two) in this process's own memory: replays, tests, detectors
    that only look on. ``feeds``: FEED segments; ``inventory``: INVENTORY, None = unlimited."""
    opps = np.zeros(queue_words(capacity, OPPORTUNITY.WORDS), dtype=np.int64)
    init_queue(opps, 0, capacity, OPPORTUNITY.WORDS, 0)
    return Ports(
        feeds=feeds,
        inventory=nothing() if inventory is None else inventory,
        catalogue=nothing(),
        opps=opps,
        opps_cursor=np.zeros(CURSOR.END, dtype=np.int64),
        reports=nothing(),
        reports_cursor=nothing(),
        metrics=nothing(),
    )
