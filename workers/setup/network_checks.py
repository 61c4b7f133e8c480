"""Rows of ``arb doctor`` that need the network: venues, their clocks, NTP, and what venues say of the keys."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence

from pipeline.exchanges.base import VenueClient
from pipeline.exchanges.factory import make_venue
from pipeline.model.clock import mono_ns, wall_ms
from pipeline.model.config import EngineConfig, VenueConfig
from pipeline.model.errors import VenueError
from pipeline.model.structs import KeyRights
from workers.credentials import key_fix
from workers.setup.account_answer import account_state_row, ask_account, keys_to_ask, withdraw_row
from workers.setup.checks import Check, State

ANSWER_TIMEOUT_S = 10.0
TRIPS = 5  # the shortest of so many round trips is the latency, the middle one its usual value
LATENCY_WARN_MS = 250
CLOCK_WARN_MS = 50
CLOCK_FAIL_MS = 500  # signed requests begin to be refused, ages of books mean nothing
NTP_SERVER = "pool.ntp.org"
NTP_PORT = 123
NTP_TIMEOUT_S = 2.0
NTP_TO_UNIX_S = 2_208_988_800
CLOCK_FIX = "run chrony (apt install chrony), then `chronyc tracking`"


async def network_checks(config: EngineConfig, instance: str, ntp: str = NTP_SERVER) -> list[Check]:
    """Rows of every venue and key, and of NTP; all are asked at once."""
    keys, rows = keys_to_ask(config, instance)
    venues = await asyncio.gather(*(_venue(venue) for venue in config.venues))
    asked = [
        ask_key(make_venue(venue, keys[venue.exchange]), venue, key_fix(instance, venue.exchange))
        for venue in _one_an_exchange(config.venues)
        if venue.exchange in keys
    ]
    asked += [
        ask_settings(make_venue(venue, keys[venue.exchange]), venue)
        for venue in config.trading_venues
        if venue.exchange in keys and venue not in _one_an_exchange(config.venues)
    ]
    reported = await asyncio.gather(*asked)
    found = [row for of_venue in venues for row in of_venue]
    return [*found, await _ntp(ntp), *rows, *(row for of_key in reported for row in of_key)]


def _one_an_exchange(venues: Sequence[VenueConfig]) -> list[VenueConfig]:
    found: dict[str, VenueConfig] = {}
    for venue in venues:
        found.setdefault(venue.exchange, venue)
    return list(found.values())


async def _venue(venue: VenueConfig) -> list[Check]:
    """Reachability with latency, and our clock against the venue's, from the shortest of a few round trips."""
    client = make_venue(venue)
    trips: list[tuple[int, int]] = []  # (round trip ns, our clock minus theirs ms, at the middle of the trip)
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            for _ in range(TRIPS):
                wall, begin = wall_ms(), mono_ns()
                theirs = await client.server_time_ms()
                trip = mono_ns() - begin
                trips.append((trip, wall + trip // 2_000_000 - theirs))
    except (VenueError, TimeoutError, OSError) as error:
        fix = f"check DNS, firewall and the URL {venue.rest}"
        return [Check(f"{venue.name} reachable", State.FAIL, str(error) or "no answer", "an answer", fix)]
    finally:
        await client.close()
    return [
        _latency(venue.name, sorted(trip for trip, _ in trips)),
        clock_row(f"clock against {venue.name}", *min(trips)),
    ]


def _latency(name: str, trips_ns: Sequence[int]) -> Check:
    least, middle = trips_ns[0] / 1e6, trips_ns[len(trips_ns) // 2] / 1e6
    state = State.OK if middle < LATENCY_WARN_MS else State.WARN
    fix = "a host in the venue's region: nothing else brings as much"
    return Check(
        f"{name} reachable", state, f"{least:.1f} ms at best, {middle:.1f} ms usually", f"{LATENCY_WARN_MS} ms", fix
    )


def clock_row(name: str, trip_ns: int, offset_ms: int) -> Check:
    """``offset_ms``: our clock minus theirs; it is known to half a round trip, which is no reason to warn."""
    doubt_ms = trip_ns // 2_000_000 + 1
    certain_ms = max(0, abs(offset_ms) - doubt_ms)
    state = State.OK if certain_ms < CLOCK_WARN_MS else State.WARN if certain_ms < CLOCK_FAIL_MS else State.FAIL
    return Check(name, state, f"{offset_ms:+d} ms, ±{doubt_ms} ms", f"within {CLOCK_WARN_MS} ms", CLOCK_FIX)


async def _ntp(server: str) -> Check:
    """One SNTP question (RFC 4330); ``unknown`` where it is not answered, which firewalls are known for."""
    host, _, port = server.partition(":")
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(NTP_TIMEOUT_S):
            found = await loop.getaddrinfo(host, int(port or NTP_PORT), type=socket.SOCK_DGRAM)
            family, kind, protocol, _, address = found[0]
            with socket.socket(family, kind, protocol) as link:
                link.setblocking(False)
                await loop.sock_connect(link, address)
                wall, begin = wall_ms(), mono_ns()
                await loop.sock_sendall(link, b"\x23" + bytes(47))  # version 4, client
                reply = await loop.sock_recv(link, 128)
                trip = mono_ns() - begin
    except (TimeoutError, OSError) as error:
        text = f"{server} does not answer ({str(error) or 'timeout'})"
        return Check("clock against NTP", State.UNKNOWN, text, f"within {CLOCK_WARN_MS} ms", CLOCK_FIX)
    if len(reply) < 48 or reply[1] == 0:
        text = f"{server} gave no time"
        return Check("clock against NTP", State.UNKNOWN, text, f"within {CLOCK_WARN_MS} ms", CLOCK_FIX)
    seconds, fraction = struct.unpack("!II", reply[40:48])
    theirs_ms = (seconds - NTP_TO_UNIX_S) * 1000 + (fraction * 1000 >> 32)
    return clock_row("clock against NTP", trip, wall + trip // 2_000_000 - theirs_ms)


async def ask_settings(client: VenueClient, venue: VenueConfig) -> list[Check]:
    """A row where the account's modes are wrong at a further venue of an exchange. ``client`` is closed."""
    try:
        answer = await ask_account(client, venue)
    finally:
        await client.close()
    return [account_state_row(f"account of {venue.name}", answer, "")] if answer.settings else []


async def ask_key(client: VenueClient, venue: VenueConfig, fix: str) -> list[Check]:
    """Rows about the key of ``client``, which is closed. ``fix``: what writes another one."""
    name = f"key of {venue.exchange}"
    try:
        answer = await ask_account(client, venue)
    finally:
        await client.close()
    rows = [account_state_row(f"{name} accepted", answer, fix)]
    if answer.refused:
        return rows
    rows.append(withdraw_row(name, answer.rights, answer.rights_unanswered))
    rights = answer.rights or KeyRights()
    address = "bind it to this host's address at the exchange"
    reported = {None: ("the venue does not tell", State.UNKNOWN), True: ("yes", State.OK), False: ("no", State.WARN)}
    text, state = reported[rights.ip_bound]
    rows.append(Check(f"{name} bound to addresses", state, text, "yes", address))
    if rights.trade is False:
        rows.append(Check(f"{name} trade right", State.WARN, "no: for reading only", "yes, for role trade", fix))
    return rows
