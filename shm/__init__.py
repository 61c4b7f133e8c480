"""Shared memory: layout, atomics, owned segments, rings, queues, counters. Knows nothing of exchanges."""
