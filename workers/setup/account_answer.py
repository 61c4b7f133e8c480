"""What a venue answers about an account and its key: one question without an answer spoils no other."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import msgspec

from pipeline.exchanges.base import ACCOUNT_MISSING, VenueClient
from pipeline.model.config import EngineConfig, VenueConfig
from pipeline.model.enums import Mode
from pipeline.model.errors import AccountSettingsWrong, AuthRefused, ConfigInvalid, VenueError, settings_fix
from pipeline.model.structs import Balance, Credentials, KeyRights, Position
from workers.credentials import KeysLocked, is_placeholder, key_fix, load_credentials
from workers.setup.checks import Check, State

ANSWER_TIMEOUT_S = 15.0


class AccountAnswer(msgspec.Struct, kw_only=True):
    """None: not asked, or no answer, which a text beside it explains."""

    balances: list[Balance] | None = None
    positions: list[Position] | None = None
    rights: KeyRights | None = None
    refused: str = ""  # the key
    absent: str = ""  # the key is good, the account is not there yet
    unanswered: str = ""
    settings: str = ""  # why the modes of the account are wrong, and the call that mends them
    rights_unanswered: str = ""

    @property
    def whole(self) -> bool:
        """Whether everything that it is worth was answered: balances, and positions with their unrealised P&L."""
        return self.balances is not None and self.positions is not None


async def ask_account(client: VenueClient, venue: VenueConfig) -> AccountAnswer:
    """Ask with the key of ``client``, which stays open. Nothing is set at the venue."""
    answer = AccountAnswer()
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            if venue.market == "spot":  # elsewhere this sets modes, and balances tell of wrong ones
                await client.apply_account_settings((), Decimal(1))
            answer.balances = await client.balances()
            answer.positions = await client.positions()
    except AuthRefused as error:
        if error.api_code not in ACCOUNT_MISSING:
            answer.refused = str(error)
            return answer
        answer.absent = str(error)
    except AccountSettingsWrong as error:
        answer.settings = str(error)
    except (VenueError, TimeoutError, OSError) as error:
        answer.unanswered = str(error) or "no answer"
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            answer.rights = await client.key_rights()
    except (VenueError, TimeoutError, OSError) as error:
        answer.rights_unanswered = str(error) or "no answer"
    return answer


def account_state_row(name: str, answer: AccountAnswer, fix: str) -> Check:
    """Whether the key was accepted. ``fix``: what writes another one."""
    want = "an accepted key"
    if answer.refused:
        return Check(name, State.FAIL, answer.refused, want, fix)
    if answer.absent:
        return Check(name, State.WARN, f"yes, no account yet: {answer.absent}", want, "transfer funds there first")
    if answer.settings:
        text, mends = settings_fix(answer.settings)
        return Check(name, State.FAIL, text, "the account's modes as the engine counts with them", mends)
    if answer.balances is None or answer.unanswered:
        return Check(name, State.UNKNOWN, answer.unanswered or "not asked", want, "ask again later")
    return Check(name, State.OK, f"yes, {len(answer.balances)} balances", want, fix)


def withdraw_row(name: str, rights: KeyRights | None, unanswered: str = "") -> Check:
    """The right to withdraw: ``unknown`` where the venue does not tell, never ``ok``."""
    fix = "make a key without the right to withdraw at the exchange, and write it in place of this one"
    if rights is None or rights.withdraw is None:
        text = f"not answered: {unanswered}" if rights is None else "the venue does not tell"
        return Check(f"{name} withdrawal right", State.UNKNOWN, f"{text}; look at the key's page there", "none", fix)
    if rights.withdraw:
        return Check(f"{name} withdrawal right", State.FAIL, "the key may withdraw", "none", fix)
    return Check(f"{name} withdrawal right", State.OK, "none", "none", "")


def keys_to_ask(config: EngineConfig, instance: str) -> tuple[dict[str, Credentials], list[Check]]:
    """The keys that there are, by exchange, whatever the mode; and a row for each that is needed and cannot be used."""
    live = msgspec.structs.replace(config, mode=Mode.LIVE)  # paper takes a locked key for none
    found: dict[str, Credentials] = {}
    rows: list[Check] = []
    for exchange in config.feeds:
        name, fix, want = f"account of {exchange}", key_fix(instance, exchange), "a key to ask with"
        try:
            key = load_credentials(live, exchange, instance=instance)
        except KeysLocked:
            fix = f"`arb keys test {exchange} --instance {instance} --passphrase`"
            rows.append(Check(name, State.UNKNOWN, "not asked: its key is locked", want, fix))
        except ConfigInvalid as error:
            rows.append(Check(name, State.FAIL, error.errors[0], want, fix))
        else:
            if key is not None and is_placeholder(key):
                rows.append(Check(name, State.FAIL, "a sample text as its key", want, fix))
            elif key is not None:
                found[exchange] = key
            elif exchange in config.trading_exchanges:
                rows.append(Check(name, State.UNKNOWN, "not asked: it has no key", want, fix))
    return found, rows
