"""Episodes: one per direction, from the first event with an edge above the minimum to the first at or below it.

Each ends *pushed* (handed to the executor, once) or *refused* under one gate: the first gate that failed in the
evaluation that came furthest (an episode is looked at again on every event of its books and when a proof arrives;
a dislocation that grows through the threshold and then meets an empty balance is an inventory refusal).
Gates are numbered in their order, so "furthest" is the greatest code; a torn read counts as nothing passed.

After the executor's report a direction is re-armed: when its cooldown is over and the edge is still there, a new
episode begins. So at any time: opened = pushed + ended refused + open ones that are not pushed.
"""

from __future__ import annotations

from pipeline.detection.state import (
    C_ACTIVE,
    C_ENDED,
    C_OPENED,
    C_PUSHED,
    C_REFUSED,
    CLOSED,
    EP_COOLDOWN_UNTIL_NS,
    EP_EVALUATED_NS,
    EP_OPENED_NS,
    EP_POSITION,
    EP_REARMED,
    EP_REASON,
    EP_STATE,
    OPEN,
    OPENED_RING,
    PUSHED,
    SE_COOLDOWN_NS,
    State,
)
from pipeline.model.enums import Refusal
from shm.jit import njit

TORN = int(Refusal.TORN)


@njit
def open_episode(state: State, episode: int, now_ns: int) -> None:
    """A new episode; a pushed one that is open already ends here (it was counted when it was pushed)."""
    row = state.episodes[episode]
    if row[EP_STATE] == CLOSED:
        count = state.counters[C_ACTIVE]
        row[EP_POSITION] = count
        state.active[count] = episode
        state.counters[C_ACTIVE] = count + 1
    row[EP_STATE] = OPEN
    row[EP_REASON] = 0
    row[EP_OPENED_NS] = now_ns
    row[EP_EVALUATED_NS] = 0
    row[EP_REARMED] = 0
    opened = state.counters[C_OPENED]
    state.opened[opened & (OPENED_RING - 1)] = episode
    state.counters[C_OPENED] = opened + 1


@njit
def close_episode(state: State, episode: int) -> None:
    """The edge is gone: counts the refusal unless it was pushed, and leaves the list of open ones."""
    row = state.episodes[episode]
    if row[EP_STATE] == CLOSED:
        return
    if row[EP_STATE] == OPEN:
        state.counters[C_REFUSED + row[EP_REASON]] += 1
        state.counters[C_ENDED] += 1
    row[EP_STATE] = CLOSED
    last = state.counters[C_ACTIVE] - 1
    moved = state.active[last]
    state.active[row[EP_POSITION]] = moved
    state.episodes[moved, EP_POSITION] = row[EP_POSITION]
    state.counters[C_ACTIVE] = last


@njit
def note_refusal(state: State, episode: int, reason: int, now_ns: int) -> None:
    """Remembers the verdict of one evaluation; the one that came furthest stays."""
    row = state.episodes[episode]
    row[EP_EVALUATED_NS] = now_ns
    known = row[EP_REASON]
    if known == 0 or known == TORN or (reason != TORN and reason > known):
        row[EP_REASON] = reason


@njit
def note_pushed(state: State, episode: int, now_ns: int) -> None:
    """The episode went to the executor: once, and the direction cools down from now."""
    row = state.episodes[episode]
    row[EP_STATE] = PUSHED
    row[EP_EVALUATED_NS] = now_ns
    row[EP_COOLDOWN_UNTIL_NS] = max(row[EP_COOLDOWN_UNTIL_NS], now_ns + state.settings[SE_COOLDOWN_NS])
    state.counters[C_PUSHED] += 1
