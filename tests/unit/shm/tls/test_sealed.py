"""Records of a jitted kernel: in the order of all others, whole or finished by their connection, or never made."""

from __future__ import annotations

import asyncio
import errno
import select
import signal
import subprocess
import sys

import numpy as np
import pytest

from pipeline.exchanges.transport.tls import TlsTransport
from pipeline.model.errors import VenueUnavailable
from shm.tls.sealed import send_sealed
from tests.worlds.tls.certificates import certificates
from tests.worlds.tls.connected import in_loops, made_small, peered
from tests.worlds.tls.peer import TLS_1_2, Peer
from tests.worlds.waiting import WAIT_S
from tests.worlds.waiting import until_async as until


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates().authority))


def sealed(transport: TlsTransport, data: bytes) -> int:
    """Sends as a jitted kernel does; what it says."""
    octets = np.frombuffer(b"xx" + data, np.uint8)
    return send_sealed(transport.seal, transport.direct_fd(), octets, 2, len(data))


@pytest.mark.parametrize("version_max", [0, TLS_1_2])
@in_loops
async def test_a_kernels_records_stand_in_the_order_of_all_others(version_max: int) -> None:
    async with peered(version_max=version_max) as (peer, transport, _above):
        for number in range(20):
            assert sealed(transport, b"kernel %d " % number) == len(b"kernel %d " % number)
            transport.write(b"write %d " % number)
        await peer.until(lambda: peer.received.endswith(b"write 19 "))
        assert peer.received == b"".join(b"kernel %d write %d " % (k, k) for k in range(20))


@in_loops
async def test_what_a_socket_took_in_part_is_finished_before_anything_else() -> None:
    async with peered() as (peer, transport, _above):
        made_small(transport)
        data = bytes(range(256)) * 8_000
        taken = sealed(transport, data)
        assert 0 < taken < len(data)
        transport.write_rest()
        transport.write(b"behind")
        with pytest.raises(VenueUnavailable, match="bytes of before; nothing was sent"):
            transport.direct_fd()
        await peer.until(lambda: len(peer.received) >= len(data) + 6)
        assert peer.received == data + b"behind"


@in_loops
async def test_no_record_is_made_for_a_socket_that_takes_none() -> None:
    """Each is taken as a whole or in part until the socket is full, and that is known before the next one is made."""
    async with peered() as (peer, transport, _above):
        made_small(transport)
        sent = b""
        with pytest.raises(VenueUnavailable, match="nothing was sent"):
            while True:
                data = b"%07d " % len(sent) * 125
                taken = sealed(transport, data)
                assert taken > 0
                sent += data
                if taken < len(data):
                    transport.write_rest()
        assert not transport.is_closing()
        await peer.until(lambda: len(peer.received) >= len(sent))
        assert peer.received == sent
        await until(lambda: not transport.get_write_buffer_size())
        assert sealed(transport, b"again") == 5
        await peer.until(lambda: peer.received == sent + b"again")


@pytest.mark.parametrize("what", ["answer", "close_notify", "half a record", "key update"])
@in_loops
async def test_what_came_and_was_not_read_is_seen_at_the_socket(what: str) -> None:
    async with peered() as (peer, transport, above):
        fd, rest = transport.direct_fd(), b""
        assert fd >= 0
        if what == "answer":
            peer.say(b"answer")
        elif what == "close_notify":
            peer.close_notify()
        elif what == "half a record":
            rest = peer.half_a_record(b"answer")
        else:
            peer.update_keys(asks=True)
        assert select.select([fd], [], [], WAIT_S)[0]
        assert transport.direct_fd() == -1, "the loop has not gone on"
        if what == "close_notify":
            await above.lost()
            with pytest.raises(VenueUnavailable, match="closed; nothing was sent"):
                transport.direct_fd()
            return
        await until(lambda: not select.select([fd], [], [], 0)[0], "the loop has read it")
        assert transport.direct_fd() == (fd if what == "answer" else -1)
        if what == "half a record":
            peer.raw(rest)
            await until(lambda: above.data == b"answer")
        else:
            transport.write(b"order")  # a key update goes before it
            await peer.until(lambda: peer.received == b"order")
        assert transport.direct_fd() == fd


@in_loops
async def test_a_kernel_that_meets_a_key_update_sends_it_before_its_record() -> None:
    async with peered() as (peer, transport, above):
        fd = transport.direct_fd()
        peer.update_keys(asks=True)
        peer.say(b"new")
        await until(lambda: above.data == b"new")
        assert send_sealed(transport.seal, fd, np.frombuffer(b"order", np.uint8), 0, 5) == 5
        await peer.until(lambda: peer.received == b"order")


@pytest.mark.parametrize("how", ["reset", "closed"])
@in_loops
async def test_a_peer_that_is_gone_is_seen_before_a_record_is_made(how: str) -> None:
    async with peered() as (peer, transport, _above):
        fd = transport.direct_fd()
        if how == "reset":
            peer.reset()
        else:
            assert peer.socket is not None
            peer.socket.close()
        assert select.select([fd], [], [], WAIT_S)[0]
        with pytest.raises(VenueUnavailable, match="closed by the venue; nothing was sent"):
            transport.direct_fd()


@in_loops
async def test_a_peer_that_dies_right_before_the_send_is_the_sockets_error() -> None:
    async with peered() as (peer, transport, above):
        fd = transport.direct_fd()
        peer.reset()
        assert select.select([fd], [], [], WAIT_S)[0]
        taken = send_sealed(transport.seal, fd, np.frombuffer(b"order", np.uint8), 0, 5)
        assert taken in (-errno.ECONNRESET, -errno.EPIPE)
        transport.abort()
        await above.lost()
        assert not peer.received


@in_loops
async def test_nothing_can_be_encrypted_behind_our_close() -> None:
    async with peered() as (peer, transport, above):
        fd = transport.direct_fd()
        transport.close()
        with pytest.raises(VenueUnavailable, match="closed; nothing was sent"):
            transport.direct_fd()
        octets = np.frombuffer(b"order", np.uint8)
        assert send_sealed(transport.seal, fd, octets, 0, 5) == -errno.EPROTO
        await above.lost()
        await peer.until(lambda: peer.ended)
        assert not peer.received


DYING = """
import asyncio, os, signal, sys
import numpy as np
from pipeline.exchanges.transport.openssl import client_context
from pipeline.exchanges.transport.tls import connect
from shm.tls.sealed import send_sealed
from tests.worlds.tls.connected import made_small

async def main():
    loop, context = asyncio.get_running_loop(), client_context()
    transport, _ = await connect(loop.create_connection, asyncio.Protocol, "127.0.0.1", int(sys.argv[1]), context)
    while (fd := transport.direct_fd()) < 0:
        await asyncio.sleep(0)
    made_small(transport)
    data = np.frombuffer(b"order" * 100, np.uint8)
    send_sealed(transport.seal, fd, data, 0, len(data))
    if sys.argv[2] == "in part":
        send_sealed(transport.seal, fd, np.zeros(4_000_000, np.uint8), 0, 4_000_000)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.parametrize("what", ["whole", "in part"])
def test_a_process_that_is_killed_behind_its_send_has_sent_its_order(what: str) -> None:
    """As a whole and once; of what the kernel had not taken nobody can make another order."""
    with Peer(certificates()) as peer:
        dying = subprocess.Popen([sys.executable, "-c", DYING, str(peer.port), what])
        asyncio.run(peer.until(lambda: peer.ended))
        assert dying.wait(WAIT_S) == -signal.SIGKILL
        assert peer.received[:500] == b"order" * 100
        assert not any(peer.received[500:]) and (what == "in part") is (len(peer.received) > 500)
