"""What a configuration still lacks before it can trade real money: one row each, with what mends it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pipeline.model.config import EngineConfig
from pipeline.model.config_load import config_problems
from pipeline.model.enums import Mode
from pipeline.model.errors import ConfigInvalid
from workers.control_plane.preflight import check_journal_mode
from workers.credentials import GUARD_SUFFIX, KeysLocked, key_fix, load_credentials, missing_keys
from workers.last_run.journal_mode import name_of_mode
from workers.live_rules import live_errors, live_warnings, trade_errors


class Lack(msgspec.Struct, frozen=True, kw_only=True):
    """``needed``: live refuses to start without it; else it is advised. ``solve``: the command, or what to change."""

    what: str
    solve: str
    needed: bool = True


def lacks_for_live(config: EngineConfig, instance: str, config_path: str) -> list[Lack]:
    """Rows in the order in which they are mended; [] only where live starts and nothing more is advised."""
    rows: list[Lack] = []
    rows += [Lack(what=text, solve="leave the venue out") for text in trade_errors(config)]
    for exchange in config.trading_exchanges:
        rows += _keys(config, instance, exchange)
    loopback = any("127.0.0.1" in venue.rest or "localhost" in venue.rest for venue in config.venues)
    if loopback:
        rows.append(
            Lack(what="exchanges: URLs of this host, live wants the venues' own", solve="`arb init` without --urls")
        )
    live = msgspec.structs.replace(config, mode=Mode.LIVE)
    found = [text for text in config_problems(live) if not (loopback and "plain text" in text)]
    rows += [Lack(what=text, solve=f"edit {config_path}") for text in (*found, *live_errors(live))]
    rows += [Lack(what=text, solve=f"edit {config_path}", needed=False) for text in live_warnings(live)]
    if config.mode is Mode.SIM or config.mode is Mode.PAPER:
        paper = name_of_mode(config.engine_name, Mode.PAPER)
        rows.append(
            Lack(
                what=f"mode: found {config.mode.value}; read `arb report --instance {paper}` of some days of paper "
                f"first (`arb up --config {config_path} --mode paper --instance {paper}`)",
                solve=f"`arb up --config {config_path} --mode live --i-understand-live-trading {config.engine_name}`",
            )
        )
    rows.append(
        Lack(
            what="host, clock, keys and venues as they are now",
            solve=f"`arb doctor --config {config_path}` and `arb config check --online --config {config_path}`",
            needed=False,
        )
    )
    return rows


def before_live(config: EngineConfig, instance: str) -> list[str]:
    """What live would refuse of a configuration of another mode, its keys and its journal included; [] for nothing."""
    live = msgspec.structs.replace(config, mode=Mode.LIVE)
    found = [*config_problems(live), *missing_keys(live, instance), *trade_errors(live), *live_errors(live)]
    try:
        check_journal_mode(live, instance)
    except ConfigInvalid as error:
        found += error.errors
    return found


def _keys(config: EngineConfig, instance: str, exchange: str) -> Sequence[Lack]:
    found: list[Lack] = []
    try:
        if load_credentials(config, exchange, instance=instance) is None:
            found.append(Lack(what=f"no key of {exchange}", solve=key_fix(instance, exchange)))
        if load_credentials(config, f"{exchange}{GUARD_SUFFIX}", instance=instance) is None:
            found.append(
                Lack(
                    what=f"no key of its own for the guard at {exchange}: it uses the trade key",
                    solve=key_fix(instance, exchange, "guard"),
                    needed=False,
                )
            )
    except KeysLocked:
        return found
    except ConfigInvalid as error:
        found += [Lack(what=text, solve=key_fix(instance, exchange)) for text in error.errors]
    return found
