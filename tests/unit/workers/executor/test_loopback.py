"""The rehearsed entry's bytes come back to this process, whatever the host allows."""

from __future__ import annotations

import gc
import os
import select
import socket

import numpy as np
import pytest

from pipeline.exchanges.transport import openssl
from pipeline.rehearsal.fast_lane import FastLane
from shm.tls.sealed import send_sealed
from tests.worlds.waiting import WAIT_S
from workers.executor import sealed_pair
from workers.executor.loopback import Loopback

ROUNDS = 3_000  # more bytes than a socket's buffers hold


def files() -> int:
    gc.collect()  # what earlier tests left open in cycles
    return len(os.listdir("/proc/self/fd"))


def test_what_is_sent_is_read_and_nothing_stays_open() -> None:
    before = files()
    loopback = Loopback()
    assert files() == before + 4
    assert loopback.seals == (0, 0)
    for _ in range(ROUNDS):
        for fd in loopback.fds:
            os.write(fd, bytes(2_000))
        loopback.drain()
    loopback.close()
    loopback.close()
    assert files() == before


def test_a_sealed_one_takes_encrypted_orders_for_ever() -> None:
    loopback = Loopback(sealed=True)
    assert all(loopback.seals)
    octets = np.frombuffer(bytes(2_000), np.uint8)
    for _ in range(ROUNDS):
        for fd, seal in zip(loopback.fds, loopback.seals, strict=True):
            assert send_sealed(seal, fd, octets, 0, len(octets)) == len(octets)
        theirs = loopback._pairs[0][1]
        assert select.select([theirs], [], [], WAIT_S)[0]
        came = os.read(theirs, 1 << 16)
        assert came.startswith(b"\x17\x03\x03") and bytes(100) not in came
        loopback.drain()
    FastLane(loopback).warm_up()
    loopback.close()
    loopback.close()


@pytest.mark.parametrize("lacks", ["library", "function"])
def test_where_nothing_can_be_encrypted_it_is_plain(lacks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if lacks == "library":
        monkeypatch.setattr(openssl, "_found", lambda: (None, "none here"))
    else:
        monkeypatch.setitem(sealed_pair._SIGNATURES, "SSL_of_the_future", (None,))
    loopback = Loopback(sealed=True)
    assert loopback.seals == (0, 0)
    FastLane(loopback).once()
    loopback.close()


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
