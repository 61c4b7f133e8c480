"""The checks before anything of an instance starts: its lock, its mode, its keys, its paper fees."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import grp
import os
import socket
import time
from collections.abc import Awaitable, Callable, Collection
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pipeline.exchanges.base import ACCOUNT_MISSING, VenueClient
from pipeline.model.config import EngineConfig, VenueConfig
from pipeline.model.config_load import load_config
from pipeline.model.enums import Mode
from pipeline.model.errors import ArbitrageEngineError, AuthRefused, ConfigInvalid, VenueError
from workers.base import Notifier
from workers.control_plane.instances import run_file
from workers.credentials import KeysLocked, load_credentials, missing_keys, without_guard_key
from workers.last_run.journal_mode import mode_problem
from workers.live_rules import live_errors, trade_errors
from workers.output import say
from workers.state_folder import instance_dir, open_to_group, room_problem, share, state_root

if TYPE_CHECKING:
    from workers.control_plane.catalogue import VenueFailure

KEY_CHECK_S = 5.0
ROOM_LOOK_S = 5.0
ROOM_EXTEND_US = 60_000_000
ANOTHER_DISK = "choose another disk with ARB_STATE_DIR"


class CouldNotStart(ArbitrageEngineError):
    """The instance cannot be started: lock held, venues dead, configuration refused by a child."""


class ForkServerLost(CouldNotStart):
    """A running instance has lost its fork server, and its processes with it."""


def open_to_readers(config: EngineConfig, instance: str) -> None:
    """Let the group of ``monitoring.group`` read the instance's status, from the state folder and the shared memory,
    whose group is that of the process. Raises ConfigInvalid where that is another one, OSError."""
    group = "" if config.monitoring is None else config.monitoring.group
    found = f"monitoring.group: found {group!r}"
    if group:
        try:
            wanted = grp.getgrnam(group).gr_gid
        except KeyError:
            raise ConfigInvalid([f"{found}, wanted a group of this host (getent group)"]) from None
        if wanted != os.getegid():
            own = _group_name(os.getegid())
            solve = f"Group={group} in the units, or `newgrp {group}` before `arb up`"
            raise ConfigInvalid([f"{found}, but the instance runs as group {own}, and wanted the same: {solve}"])
    open_to_group(instance_dir(instance, create=True), bool(group))


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def lock_instance(instance: str) -> int:
    """The instance's lock, held while the returned descriptor is open. Raises CouldNotStart when another holds it."""
    path = instance_dir(instance, create=True) / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    share(descriptor, path.parent)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise CouldNotStart(
            f"instance {instance} is running already (found pid {holder}, wanted none); "
            f"see `arb status --instance {instance}`, or choose another engine_name"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def room_for_start(config: EngineConfig, instance: str) -> None:
    """Waits for room where whoever starts the instance would only start it again: systemd, and a container that sets
    ``ARB_AWAIT_ROOM``, which would be started for ever. Else a start without room is refused. Raises CouldNotStart."""
    waits = os.environ.get("NOTIFY_SOCKET") or os.environ.get("ARB_AWAIT_ROOM")
    (await_room if waits else check_room)(config, instance)


def check_room(config: EngineConfig, instance: str) -> None:
    """Check that the disk has room for what a start writes: every process would fail at it, one after the other.
    Raises CouldNotStart."""
    problem = _room_problem(config, instance)
    if problem:
        raise CouldNotStart(f"{problem}; make room there, or {ANOTHER_DISK}, then `arb up` again")


def await_room(config: EngineConfig, instance: str) -> None:
    """Waits until the disk has room, and says so once: systemd would give up a unit that refuses five times, and halt,
    so that room alone would not bring it back. A stop meanwhile ends the process. Raises CouldNotStart."""
    notifier, said = Notifier(), False
    while problem := _room_problem(config, instance):
        if not said:
            said = True
            say(f"{problem}; waits for room, and then begins by itself: make room there, or {ANOTHER_DISK}")
        notifier.send(f"EXTEND_TIMEOUT_USEC={ROOM_EXTEND_US}\nSTATUS=waits for the disk: {problem}")
        time.sleep(ROOM_LOOK_S)


def _room_problem(config: EngineConfig, instance: str) -> str:
    state_dir = instance_dir(instance)
    try:
        return room_problem(state_dir, config.execution.journal_segment_bytes)
    except OSError as error:
        raise CouldNotStart(f"{state_dir} cannot be read: {error.strerror}; {ANOTHER_DISK}") from None


def lock_keys(config: EngineConfig, instance: str) -> list[int]:
    """Two locks for each API key that the instance trades with, held while the returned descriptors are open: two
    engines on one account would take each other's orders for a stranger's. The file knows the holder's name, among
    those of one state folder; the socket is one for all users and state folders of the host (of its network namespace:
    a container is another host). Both are named by a fingerprint of the key; simulated venues of different addresses
    may share a key. Raises CouldNotStart when another instance holds one."""
    held: list[int] = []
    if config.mode is Mode.PAPER:
        return held
    folder = state_root() / "key-locks"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for exchange in config.trading_exchanges:
        credentials = load_credentials(config, exchange, instance=instance)
        if credentials is None:
            continue
        place = "" if config.mode is Mode.LIVE else next(v.rest for v in config.venues if v.exchange == exchange)
        name = blake2b(f"{credentials.api_key} {place}".encode(), digest_size=12).hexdigest()
        descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 64, 0).decode(errors="replace").strip()
            for lock in (descriptor, *held):
                os.close(lock)
            raise CouldNotStart(
                f"keys/{exchange}.json: found a key that instance {holder} trades with, wanted one of its own; "
                f"stop it with `arb stop --instance {holder}`, or use another key"
            ) from None
        held.append(descriptor)
        of_host = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            of_host.bind(f"\0arb-key-{name}")  # in no file system, and the kernel's to release
            held.append(of_host.detach())
        except OSError as error:
            of_host.close()
            for lock in held:
                os.close(lock)
            if error.errno != errno.EADDRINUSE:
                raise CouldNotStart(f"keys/{exchange}.json: its lock cannot be taken: {error.strerror}") from None
            raise CouldNotStart(
                f"keys/{exchange}.json: found a key that another engine of this host trades with, of another user or "
                "another ARB_STATE_DIR, wanted one of its own; as root `ss -xap | grep arb-key-` shows its processes; "
                "stop that one, or use another key"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{instance}\n".encode(), 0)
    return held


def check_journal_mode(config: EngineConfig, instance: str) -> None:
    """Check that the instance's journal, if it has one, is of this mode. Raises ConfigInvalid.

    A journal that cannot be read is not judged here: the processes that need it say what is wrong with it.
    """
    from workers.last_run.half_done import replayed  # imported here: it loads numpy, which must come after the fork

    folder = instance_dir(instance)
    if not any((folder / "journal").glob("journal-*.seg")):
        return
    ledger = replayed(folder)
    # a checkpoint of an earlier build does not tell the mode, the last run's own description does
    found = "" if ledger is None else ledger.mode or str(run_file(instance).get("mode", ""))
    problem = mode_problem(found, config.mode, instance)
    if problem:
        raise ConfigInvalid([problem])


def check_mode(config: EngineConfig, instance: str, *, live_name: str, given: Collection[str] = ()) -> None:
    """Check what a start in this mode needs: an exchange, where orders are sent a key for each and order entry, and for
    live trading the instance's name (``live_name``) and a configuration that protects. ``given``: exchanges whose keys
    the start will bring. Raises ConfigInvalid listing all that is missing or refused."""
    errors = []
    if not config.venues:
        errors.append("exchanges: none is configured and enabled, wanted at least one; `arb demo` brings its own")
    if config.mode is Mode.LIVE and live_name != instance:
        found = f"{live_name!r}" if live_name else "nothing"
        errors.append(
            f"mode: found live, which trades real money, and as its confirmation {found}, wanted the instance's name: "
            f"add `--i-understand-live-trading {instance}` to the command"
        )
    if config.mode is not Mode.PAPER:
        errors.extend(missing_keys(config, instance, given))
        errors.extend(_guard_key_errors(config, instance))
        errors.extend(trade_errors(config))
    if config.mode is Mode.LIVE:
        errors.extend(live_errors(config))
    if errors:
        raise ConfigInvalid(errors)


def _guard_key_errors(config: EngineConfig, instance: str) -> list[str]:
    """What is wrong with the guard's own keys, where it has some: a guard that finds that later goes on."""
    try:
        without_guard_key(config, instance)
    except KeysLocked:
        return []  # the start asks for the passphrase
    except ConfigInvalid as error:
        return error.errors
    return []


def reloaded_config(path: str | None) -> EngineConfig:
    """The configuration as it stands in its file now, for a running instance: in live mode it must protect as at a
    start. Raises ConfigInvalid."""
    config = load_config(path)
    errors = live_errors(config) if config.mode is Mode.LIVE else []
    if errors:
        raise ConfigInvalid(errors)
    return config


def paper_fees(state_dir: Path) -> dict[str, dict[str, int]]:
    """``fees.json`` of a paper instance: venue -> symbol -> taker fee in ppm; {} without one.

    Raises ConfigInvalid for a file that is something else.
    """
    path = state_dir / "fees.json"
    if not path.exists():
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, int]])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigInvalid(
            [f"{path}: found something else than {{venue: {{symbol: ppm}}}} ({error}); mend or remove it"]
        ) from None


def has_traded(state_dir: Path) -> bool:
    """Whether an earlier run may have left something open at the venues."""
    return any((state_dir / "journal").glob("journal-*.seg"))


async def first_rows(
    load: Callable[[], Awaitable[list[VenueFailure]]],
    venues: int,
    state_dir: Path,
    say: Callable[[str, str], None],
    wait: Callable[[], Awaitable[bool]],
) -> list[str]:
    """Reads the instruments of all ``venues`` at once; names of those that did not answer.

    Where none does, an instance that has traded before asks again and again: whoever starts it again and again gives it
    up before the network is back, with what is open at the venues. ``wait``: until it is time; False: the instance is
    to stop. Raises CouldNotStart at a first start: it has nothing open, and tells at once what is wrong.
    """
    said = set[str]()
    while True:
        failures = await load()
        for failure in failures:
            if failure.text not in said:
                said.add(failure.text)
                say("warning", f"venue unreachable: {failure.text}")
        names = [failure.venue for failure in failures]
        if len(failures) < venues:
            return names
        if not failures or not has_traded(state_dir):
            reasons = "; ".join(failure.text for failure in failures) or "no venue is configured"
            raise CouldNotStart(f"no venue answers, wanted one at least: {reasons}. Check exchanges.*.markets.*.rest")
        if not await wait():
            return names


async def check_keys(
    config: EngineConfig, instance: str, clients: dict[str, VenueClient], say: Callable[[str, str], None]
) -> None:
    """Ask each exchange once with its key, and report a refused key before anything starts.

    Raises ConfigInvalid on a first start. An instance that has traded before starts without that venue, because
    operations at the others may have to be ended.
    """

    async def refused(venue: VenueConfig) -> str:
        try:
            async with asyncio.timeout(KEY_CHECK_S):
                await clients[venue.name].balances()
        except AuthRefused as error:
            if error.api_code in ACCOUNT_MISSING:  # it starts without that venue, which is asked again by itself
                say("error", f"{venue.name} is not traded yet, asked again by itself: {error}")
                return ""
            path = instance_dir(instance) / "keys" / f"{venue.exchange}.json"
            return f"keys/{venue.exchange}.json: refused by {venue.name}: {error}; write a valid key into {path}"
        except (VenueError, TimeoutError, OSError):
            pass  # whether the venue can be reached is judged elsewhere
        return ""

    keyed = [
        venue for venue in config.venues if load_credentials(config, venue.exchange, instance=instance) is not None
    ]
    errors = [text for text in await asyncio.gather(*(refused(venue) for venue in keyed)) if text]
    for text in errors:
        say("error", text)
    if errors and not has_traded(instance_dir(instance)):
        raise ConfigInvalid(errors)
