"""What a configuration says, against what its venues say: symbols, clocks, keys, and what lies in the accounts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from pipeline.exchanges.factory import make_venue
from pipeline.model.config import EngineConfig, VenueConfig
from pipeline.model.errors import VenueError
from pipeline.model.instruments import USD_COINS
from pipeline.model.structs import ZERO, Credentials, InstrumentSpec
from workers.credentials import key_fix
from workers.setup.account_answer import (
    ANSWER_TIMEOUT_S,
    AccountAnswer,
    account_state_row,
    ask_account,
    keys_to_ask,
    withdraw_row,
)
from workers.setup.checks import Check, State, as_fields


class VenueAnswer(msgspec.Struct, kw_only=True):
    """What one venue answered; None: not asked, or no answer (``refused`` says why)."""

    specs: list[InstrumentSpec] | None = None
    refused: str = ""
    account: AccountAnswer | None = None


def check_online(config: EngineConfig, instance: str) -> list[dict[str, Any]]:
    """Rows of ``arb config check --online``; keys are used where they are, whatever the mode."""
    keys, rows = keys_to_ask(config, instance)
    answers = asyncio.run(_ask_all(config, keys))
    for venue in config.venues:
        rows += venue_rows(venue, answers[venue.name], key_fix(instance, venue.exchange))
    rows += account_rows(config, {venue.name: answers[venue.name] for venue in config.trading_venues})
    return as_fields(rows)


async def _ask_all(config: EngineConfig, keys: Mapping[str, Credentials]) -> dict[str, VenueAnswer]:
    asked = [_ask(venue, keys.get(venue.exchange)) for venue in config.venues]
    return {venue.name: answer for venue, answer in zip(config.venues, await asyncio.gather(*asked), strict=True)}


async def _ask(venue: VenueConfig, key: Credentials | None) -> VenueAnswer:
    answer = VenueAnswer()
    client = make_venue(venue, key)
    try:
        if key is not None:
            answer.account = await ask_account(client, venue)
            if answer.account.refused:  # with it what anybody may ask would be refused too
                await client.close()
                client = make_venue(venue)
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            answer.specs = await client.instruments(venue.symbols)
    except (VenueError, TimeoutError, OSError) as error:
        answer.refused = str(error) or "no answer"
    finally:
        await client.close()
    return answer


def venue_rows(venue: VenueConfig, answer: VenueAnswer, fix: str) -> list[Check]:
    """What one venue says of its part of the configuration. ``fix``: what writes another key."""
    rows: list[Check] = []
    if answer.refused:
        rows.append(Check(f"{venue.name}", State.FAIL, answer.refused, "an answer", "see `arb doctor`"))
    if answer.specs is not None:
        missing = sorted(set(venue.symbols) - {spec.symbol for spec in answer.specs})
        state = State.FAIL if missing else State.OK
        found = f"does not list {', '.join(missing)}" if missing else f"lists all {len(venue.symbols)}"
        path = f"exchanges.{venue.exchange}.markets.{venue.market}.symbols"
        rows.append(Check(f"{venue.name} symbols", state, found, "listed symbols", f"remove them from {path}"))
    if answer.account is not None:
        rows.append(account_state_row(f"{venue.name} key", answer.account, fix))
        if not answer.account.refused:
            rows.append(withdraw_row(venue.name, answer.account.rights, answer.account.rights_unanswered))
    return rows


def account_rows(config: EngineConfig, answers: Mapping[str, VenueAnswer]) -> list[Check]:
    """Limits against the money that is there; ``unknown`` where an account did not answer, as one without a key, or
    not what its positions are worth."""
    known = sum(1 for one in answers.values() if one.account is not None and one.account.whole)
    if known < len(answers):
        text = f"{known} of {len(answers)} accounts answered"
        return [Check("limits against accounts", State.UNKNOWN, text, "all accounts", "mend what is named above")]
    equity = _worth(list(answers.values()))
    limits = config.risk_limits
    rows = [Check("accounts", State.OK, f"worth about {equity:.2f} USD", "money", "")]
    bounds = {
        "max_total_exposure_usd": (
            limits.max_total_exposure_usd,
            equity * max(Decimal(1), config.detection.hedge.leverage),
        ),
        "max_position_size_usd": (limits.max_position_size_usd, equity),
        "max_daily_loss_usd": (limits.max_daily_loss_usd, equity),
        "max_total_loss_usd": (limits.total_loss_usd, equity),
    }
    for key, (found, most) in bounds.items():
        if found > most:
            text = f"{found:f}, more than the accounts hold ({most:.2f}): it would never bind"
            rows.append(
                Check(f"risk_limits.{key}", State.FAIL, text, f"at most {most:.2f}", f"lower risk_limits.{key}")
            )
    return rows


def _worth(answers: Sequence[VenueAnswer]) -> Decimal:
    """USD of all balances: dollars at 1, coins at the reference price of a configured instrument, others not at all."""
    prices = {
        spec.base: spec.reference_price for answer in answers for spec in answer.specs or [] if spec.quote in USD_COINS
    }
    total = ZERO
    for answer in answers:
        account = answer.account or AccountAnswer()
        for row in account.balances or []:
            rate = Decimal(1) if row.asset in USD_COINS else prices.get(row.asset, ZERO)
            total += (row.free + row.locked) * rate
        total += sum((row.unrealised_pnl for row in account.positions or []), ZERO)
    return total
