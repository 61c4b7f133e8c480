"""The commented ``config.yaml`` that ``arb init`` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_DOWN, Decimal
from typing import Any

import msgspec
import yaml

from pipeline.model.dialects import facts_of
from pipeline.model.enums import Mode
from workers.setup.limits import CENT, DerivedLimits, Profile
from workers.setup.proposals import Proposal

COMMENTS = {
    "max_position_size_usd": "most of one coin on one venue",
    "max_total_exposure_usd": "all positions together",
    "warn_exposure_usd": "an alert from here on",
    "max_daily_loss_usd": "entries stop for the day",
    "max_total_loss_usd": "below the highest P&L of all days and runs: entries stop until you re-arm total_loss",
    "min_profit_margin_bps": "least edge of an entry, after all fees",
    "min_profit_usd": "least expected profit of an entry, after all fees",
    "max_orders_per_s": "all venues together",
    "max_open_operations": "operations under way at once",
    "max_naked_usd_s": "USD x seconds that legs may stand alone, all operations together",
    "max_unexplained_loss_usd": "money gone from the accounts without a reason: halts",
}

#: What paper orders meet where nobody has measured yet: rather too much than too little.
PAPER_CHANCE = {"latency_ms": 20, "latency_p99_ms": 200, "missed_ppm": 50_000, "late_ppm": 1000}


class WrittenConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the file is made of. ``exchanges``: as in a configuration, without symbols."""

    name: str
    mode: Mode
    capital_usd: Decimal
    profile: Profile
    exchanges: Mapping[str, Any]
    proposals: Sequence[Proposal]
    derived: DerivedLimits


def scalar(value: object) -> str:
    """A value as YAML on one line, quoted where YAML would read something else (``NO``, ``1e5``)."""
    if isinstance(value, Decimal):
        return format(value, "f")
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000).strip()
    return text.removesuffix("...").strip()


def config_text(written: WrittenConfig) -> str:
    """The whole file."""
    parts = (
        _head(written),
        _exchanges(written),
        _limits(written),
        _inventory(written),
        _paper(written),
        _tail(written),
    )
    return "\n".join(line for part in parts for line in part) + "\n"


def _head(written: WrittenConfig) -> list[str]:
    modes = "paper (real books, simulated fills), sim (simulated exchanges on this host), live (real money)"
    return [
        f"# Written by `arb init` for {written.capital_usd:f} USD, profile {written.profile}. Change what you like:",
        "# `arb config check` lists every error, `arb config show` every value with its origin.",
        f"engine_name: {scalar(written.name)}",
        f"mode: {written.mode.value}  # {modes}",
        "",
    ]


def _exchanges(written: WrittenConfig) -> list[str]:
    lines = ["exchanges:"]
    for exchange, entry in written.exchanges.items():
        lines += [f"  {scalar(exchange)}:", f"    dialect: {entry['dialect']}"]
        lines += ["    trade: false  # this dialect reads books alone"] if entry.get("trade") is False else []
        lines.append("    markets:")
        for market, urls in entry["markets"].items():
            venue = f"{exchange}_{market}"
            symbols = [row.symbols[venue] for row in written.proposals if venue in row.symbols]
            lines.append(f"      {market}:")
            lines += [f"        {key}: {scalar(url)}" for key, url in urls.items()]
            lines.append("        symbols:")
            for row in written.proposals:
                if venue in row.symbols:
                    volume = "" if row.day_volume is None else f", {row.day_volume:.0f} a day where it trades least"
                    lines.append(f"          - {scalar(row.symbols[venue])}  # {row.pair}: {row.identity}{volume}")
            if not symbols:
                lines[-1] = "        symbols: []"
    return [*lines, ""]


def _limits(written: WrittenConfig) -> list[str]:
    derived = written.derived
    lines = [
        "detection:",
        f"  max_notional_usd: {scalar(derived.max_notional_usd)}  # largest entry",
        "  inventory_price: true  # what empties a venue must earn more, what fills it again may earn less",
        "",
        "risk_limits:  # USD; fractions of the capital by the profile",
    ]
    for key, comment in COMMENTS.items():
        lines.append(f"  {key}: {scalar(getattr(derived.limits, key))}  # {comment}")
    if derived.per_exchange_usd is not None:
        lines.append("  per_venue:  # no venue may hold more than its account's share of the capital")
        for exchange, entry in written.exchanges.items():
            for market in entry["markets"]:
                lines.append(f"    {exchange}_{market}: {{max_exposure_usd: {scalar(derived.per_exchange_usd)}}}")
    return [*lines, ""]


def _paper(written: WrittenConfig) -> list[str]:
    """The simulated accounts: each venue's share of the capital, so that paper meets what the real accounts would."""
    lines = [
        "paper:  # mode paper alone: what a simulated account begins with, read when it is made; and what its orders",
        "  # meet: the way to the venue (`arb doctor` measures yours), orders and answers that come too late (ppm)",
    ]
    trading = {name: entry for name, entry in written.exchanges.items() if entry.get("trade") is not False}
    chance = ", ".join(f"{key}: {value}" for key, value in PAPER_CHANCE.items())
    for exchange, entry in trading.items():
        usd = (written.capital_usd / len(trading) / len(entry["markets"])).quantize(CENT, ROUND_DOWN)
        lines += [f"  {exchange}_{market}: {{capital_usd: {usd:f}, {chance}}}" for market in entry["markets"]]
    return [*lines, ""]


def _inventory(written: WrittenConfig) -> list[str]:
    lines: list[str] = []
    for exchange, entry in written.exchanges.items():
        for market in entry["markets"] if entry.get("trade", True) else ():
            venue = f"{exchange}_{market}"
            quotes = sorted({row.pair.partition("/")[2] for row in written.proposals if venue in row.symbols})
            least = [f"{scalar(quote)}: {scalar(written.derived.max_notional_usd)}" for quote in quotes]
            lines += [f"    {venue}: {{{', '.join(least)}}}"] if least else []
    head = ["inventory:", "  alarms:  # an alert where less is free: it no longer pays for the largest entry"]
    return [*head, *lines, ""] if lines else []


def _tail(written: WrittenConfig) -> list[str]:
    exchange, entry = next(iter(written.exchanges.items()))
    venue = f"{exchange}_{next(iter(entry['markets']))}"
    coin = min(facts_of(entry["dialect"]).deduction_coins, default="COIN")
    return [
        "# Where fees are paid in a coin that is set aside for them:",
        f"# fees: {{{venue}: {{deduction: {{coin: {coin}, discount_ppm: 100000}}}}}}",
        "# A stock of your own choice, below `inventory:` (else the engine's, shown by `arb balance`):",
        f"#   targets: {{{venue}: {{USDT: 100}}}}",
        "# CPU sets and waiting: processes: {detector: {cpus: [1], wait: spin}, feed: {cpus: [0]}}",
    ]
