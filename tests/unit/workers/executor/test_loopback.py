"""The rehearsed entry's bytes come back to this process, whatever the host allows."""

from __future__ import annotations

import os
import socket

import pytest

from pipeline.rehearsal.fast_lane import FastLane
from workers.executor.loopback import Loopback

ROUNDS = 3_000  # more bytes than a socket's buffers hold


def files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_what_is_sent_is_read_and_nothing_stays_open() -> None:
    before = files()
    loopback = Loopback()
    assert files() == before + 4
    for _ in range(ROUNDS):
        for fd in loopback.fds:
            os.write(fd, bytes(2_000))
        loopback.drain()
    loopback.close()
    loopback.close()
    assert files() == before


def test_where_loopback_is_forbidden_a_plain_pair_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError("no loopback here")

    monkeypatch.setattr(socket, "create_server", forbidden)
    before = files()
    loopback = Loopback()
    assert files() == before + 4
    FastLane(loopback).warm_up()
    loopback.close()
    assert files() == before


def test_a_connection_that_breaks_raises_an_os_error() -> None:
    loopback = Loopback()
    (ours, theirs), _ = loopback._pairs
    os.close(theirs)
    loopback._pairs[0] = (ours, os.open("/dev/null", os.O_RDONLY))
    lane = FastLane(loopback)
    with pytest.raises(OSError, match="nothing was sent"):
        for _ in range(3):  # the first bytes bring the reset
            lane.once()
    loopback.close()
