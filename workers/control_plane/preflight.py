"""What is looked at before anything of an instance starts: its lock, its mode, its keys, its paper fees."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pipeline.model.enums import Mode
from pipeline.model.errors import ArbitrageEngineError, AuthRefused, ConfigInvalid, VenueError
from workers.base import instance_dir, load_credentials

if TYPE_CHECKING:
    from pipeline.exchanges.base import VenueClient
    from pipeline.model.config import EngineConfig, VenueConfig

KEY_CHECK_S = 5.0
KEY_FORMAT = '{"api_key": "...", "api_secret": "...", "uid": ""}'


class CouldNotStart(ArbitrageEngineError):
    """The instance cannot be started: lock held, venues dead, configuration refused by a child."""


def lock_instance(instance: str) -> int:
    """The instance's lock, held while the returned descriptor is open. Raises CouldNotStart when another holds it."""
    path = instance_dir(instance, create=True) / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise CouldNotStart(
            f"instance {instance} is running already (pid {holder}); "
            f"see `arb status --instance {instance}`, or choose another engine_name"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def check_mode(config: EngineConfig, instance: str, *, live_confirmed: bool) -> None:
    """What a start in this mode needs: an exchange, a key for each where orders are sent, and for live trading the
    flag. Raises ConfigInvalid listing all that is missing."""
    errors = []
    if not config.venues:
        errors.append("exchanges: none is configured (or enabled); `arb demo` brings its own")
    if config.mode is Mode.LIVE and not live_confirmed:
        errors.append("mode: live trades real money; confirm with --i-understand-live-trading")
    if config.mode is not Mode.PAPER:
        errors.extend(missing_keys(config, instance))
    if errors:
        raise ConfigInvalid(errors)


def missing_keys(config: EngineConfig, instance: str) -> list[str]:
    """One line for each exchange without a usable key, and where the key goes."""
    errors = []
    for name in config.feeds:
        try:
            if load_credentials(config, name, instance=instance) is None:
                errors.append(
                    f"exchanges.{name}: no key, needed for mode {config.mode}; put {KEY_FORMAT} into "
                    f"{instance_dir(instance) / 'keys' / name}.json (mode 0600), or $CREDENTIALS_DIRECTORY/{name}.json"
                )
        except ConfigInvalid as error:
            errors.extend(error.errors)
    return errors


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
        raise ConfigInvalid([f"{path}: wanted {{venue: {{symbol: ppm}}}}: {error}"]) from None


async def check_keys(
    config: EngineConfig, instance: str, clients: dict[str, VenueClient], say: Callable[[str, str], None]
) -> None:
    """A key that its exchange refuses is said before anything starts. Raises ConfigInvalid on a first start; an
    instance that has traded before goes on without the venue, because the others may have something to end."""

    async def refused(venue: VenueConfig) -> str:
        try:
            async with asyncio.timeout(KEY_CHECK_S):
                await clients[venue.name].balances()
        except AuthRefused as error:
            return f"keys/{venue.exchange}.json: refused by {venue.name}: {error}"
        except (VenueError, TimeoutError, OSError):
            pass  # whether the venue can be reached is judged elsewhere
        return ""

    keyed = [
        venue for venue in config.venues if load_credentials(config, venue.exchange, instance=instance) is not None
    ]
    errors = [text for text in await asyncio.gather(*(refused(venue) for venue in keyed)) if text]
    for text in errors:
        say("error", text)
    if errors and not any((instance_dir(instance) / "journal").glob("journal-*.seg")):
        raise ConfigInvalid(errors)
