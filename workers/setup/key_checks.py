"""Rows of ``arb doctor`` about key files, without asking anybody: present, mode, no sample."""

from __future__ import annotations

import msgspec

from pipeline.model.config import EngineConfig
from pipeline.model.enums import Mode
from pipeline.model.errors import ConfigInvalid
from workers.credentials import GUARD_SUFFIX, KeysLocked, is_placeholder, key_fix, load_credentials
from workers.setup.checks import Check, State


def key_checks(config: EngineConfig, instance: str) -> list[Check]:
    """A row for each exchange that is traded, and one for the guard's keys."""
    rows = [_key(config, instance, exchange) for exchange in config.trading_exchanges]
    shared = []
    for exchange in config.trading_exchanges:
        try:
            if load_credentials(config, f"{exchange}{GUARD_SUFFIX}", instance=instance) is None:
                shared.append(exchange)
        except KeysLocked:
            continue
        except ConfigInvalid:
            shared.append(exchange)
    if shared and config.mode is not Mode.PAPER:
        fix = key_fix(instance, shared[0], "guard")
        text = f"uses the trade key at {', '.join(shared)}"
        rows.append(Check("keys of the guard", State.WARN, text, "keys of its own", fix))
    return rows


def _key(config: EngineConfig, instance: str, exchange: str) -> Check:
    name, want = f"key of {exchange}", "a file of mode 0600"
    fix = key_fix(instance, exchange)
    live = msgspec.structs.replace(config, mode=Mode.LIVE)  # paper takes a locked key for none
    try:
        found = load_credentials(live, exchange, instance=instance)
    except KeysLocked:
        return Check(name, State.OK, "present, encrypted", want, fix)
    except ConfigInvalid as error:
        return Check(name, State.FAIL, error.errors[0], want, fix)
    if found is None:
        if config.mode is Mode.PAPER:
            return Check(
                name, State.OK, "none; paper needs none (with one, venues tell which coin is which)", want, fix
            )
        return Check(name, State.FAIL, "none", want, fix)
    if is_placeholder(found):
        return Check(name, State.FAIL, "a sample text", "the key that the exchange gave", fix)
    return Check(name, State.OK, "present, mode 0600", want, fix)
