"""``arb init`` and ``arb pairs``: asks the venues, proposes, derives, writes, and says what comes next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from pipeline.model.config import EngineConfig
from pipeline.model.config_load import load_config
from pipeline.model.enums import Mode
from pipeline.model.errors import BadInput, ConfigInvalid
from pipeline.model.structs import Credentials
from workers.credentials import load_credentials
from workers.last_run.journal_mode import name_of_mode
from workers.setup.config_text import WrittenConfig, config_text
from workers.setup.limits import CAPITAL_MAX_USD, CAPITAL_MIN_USD, Profile, derive_limits
from workers.setup.market_check import MarketCheck, check_markets
from workers.setup.proposals import Proposal, within_entry
from workers.setup.readiness import Lack, lacks_for_live
from workers.setup.venue_plan import Urls, exchange_section, planned_config
from workers.state_folder import replace_file

PAIRS_MAX = 200
SKIPPED_SHOWN = 10


class InitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What ``arb init`` was asked for. ``pairs``: so many, or the named ones."""

    venues: Sequence[str]
    capital_usd: Decimal
    pairs: int | Sequence[str]
    profile: Profile
    mode: Mode
    name: str
    quote: str
    urls: Urls
    out: Path
    force: bool


def parse_pairs(text: str) -> int | list[str]:
    """``10``, or ``BTC/USDT,ETH/USDT``. Raises BadInput."""
    wanted = text.strip()
    if wanted.isdigit():
        if not 1 <= int(wanted) <= PAIRS_MAX:
            raise BadInput(f"--pairs: found {wanted}, wanted 1 to {PAIRS_MAX}, or BASE/QUOTE,…")
        return int(wanted)
    names = [name.strip().upper() for name in wanted.split(",") if name.strip()]
    odd = [name for name in names if name.count("/") != 1 or name.startswith("/") or name.endswith("/")]
    if odd or not names:
        raise BadInput(f"--pairs: found {', '.join(odd) or repr(text)}, wanted a number, or BASE/QUOTE,…")
    return names


def parse_capital(text: str) -> Decimal:
    """USD of all accounts together. Raises BadInput."""
    try:
        capital = Decimal(text.strip().replace("_", ""))
    except ArithmeticError:
        capital = Decimal("NaN")
    if not capital.is_finite() or not CAPITAL_MIN_USD <= capital <= CAPITAL_MAX_USD:
        bounds = f"{CAPITAL_MIN_USD:f} to {CAPITAL_MAX_USD:f}"
        raise BadInput(f"--capital: found {text!r}, wanted USD of all accounts together, {bounds}")
    return capital


def keys_for(config: EngineConfig, instance: str) -> dict[str, Credentials | None]:
    """The keys that are there already, by exchange; with them venues tell more. A file that cannot be used is none."""
    found: dict[str, Credentials | None] = {}
    for exchange in config.feeds:
        try:
            found[exchange] = load_credentials(config, exchange, instance=instance)
        except ConfigInvalid:
            found[exchange] = None
    return found


def pairs_fields(found: MarketCheck) -> dict[str, Any]:
    """What ``arb pairs`` prints."""
    rows = [msgspec.to_builtins(row, builtin_types=(Decimal,)) | {"usable": row.usable} for row in found.proposals]
    return {"venues": found.venues, "shared": found.shared, "pairs": rows}


def propose_pairs(config: EngineConfig, instance: str, *, quote: str, wanted: int | Sequence[str]) -> dict[str, Any]:
    """Pairs that the venues of ``config`` share, those in doubt among them. Raises CouldNotStart, BadInput."""
    keys = keys_for(config, instance)
    trusted = config.detection.every_trusted_coin
    found = asyncio.run(check_markets(config, keys, quotes={quote}, wanted=wanted, trusted_coins=trusted))
    if isinstance(wanted, int):
        found = msgspec.structs.replace(found, proposals=found.proposals[:wanted])
    return pairs_fields(found)


def write_config(options: InitOptions, say: Callable[[str], None]) -> dict[str, Any]:
    """Write the configuration, checked as a start would check it.

    Raises BadInput, ConfigInvalid, CouldNotStart; nothing is written then.
    """
    if options.out.exists() and not options.force:
        raise BadInput(f"--out: found a file at {options.out}, wanted a new one; give another name, or --force")
    if not options.out.parent.is_dir():
        raise BadInput(f"--out: found no folder {options.out.parent}; create it, or give another name")
    planned = planned_config(options.venues, options.urls, options.mode)
    keys = keys_for(planned, options.name)
    say(f"asking {', '.join(venue.name for venue in planned.venues)} what they list")
    found = asyncio.run(check_markets(planned, keys, quotes={options.quote}, wanted=options.pairs))
    derived = derive_limits(options.capital_usd, options.profile, len(planned.feeds))
    chosen, skipped = _choose(found.proposals, options.pairs, derived.max_notional_usd)
    if not chosen:
        reasons = "; ".join(f"{row['pair']}: {row['reason']}" for row in skipped[:3])
        raise BadInput(
            f"found no pair that two of the venues share and that can be traded ({found.shared} shared in "
            f"{options.quote}): {reasons or 'none is listed twice'}; `arb pairs` shows them; with keys "
            "(`arb keys add`) venues tell which coin is which"
        )
    text = config_text(
        WrittenConfig(
            name=options.name,
            mode=options.mode,
            capital_usd=options.capital_usd,
            profile=options.profile,
            exchanges=exchange_section(options.venues, options.urls),
            proposals=chosen,
            derived=derived,
        )
    )
    config = _checked(options.out, text)
    lacks = [_money(options, config), *_thin_stocks(config), *lacks_for_live(config, options.name, str(options.out))]
    return {
        "config": str(options.out),
        "name": options.name,
        "mode": str(options.mode),
        "capital_usd": options.capital_usd,
        "profile": str(options.profile),
        "pairs": [row.pair for row in chosen],
        "skipped": skipped,
        "limits": _limits_shown(config),
        "ready_for_live": [msgspec.to_builtins(row) for row in lacks],
        "next": _next(config, options),
    }


def _money(options: InitOptions, config: EngineConfig) -> Lack:
    """What has to lie where: a sale on a spot venue needs the coin there, a purchase the quote coin."""
    share = (options.capital_usd / len(config.feeds)).quantize(Decimal(1))
    return Lack(
        what=f"about {share:f} USD at each of {', '.join(config.feeds)}: on spot venues half {options.quote}, half "
        "coins to sell; for futures margin",
        solve="`arb balance` shows what is where, once it runs",
        needed=True,
    )


def _thin_stocks(config: EngineConfig) -> list[Lack]:
    """A row where coins of a spot venue, its stock in equal parts, do not last for one sale of a whole entry."""
    entry = config.detection.max_notional_usd
    found = []
    for venue in config.trading_venues:
        capital = config.paper[venue.name].capital_usd if venue.name in config.paper else None
        if venue.market != "spot" or capital is None or not venue.symbols:
            continue
        each = (capital / 2 / len(venue.symbols)).quantize(Decimal("0.01"))
        if each < entry:
            found.append(f"{venue.name} {each} USD each of {len(venue.symbols)}")
    if not found:
        return []
    what = f"coins to sell do not last for one entry of {entry:.2f} USD: {', '.join(found)}"
    return [Lack(what=what, solve="fewer pairs (`arb init --pairs N`), or more capital", needed=False)]


def _choose(
    proposals: Sequence[Proposal], wanted: int | Sequence[str], entry_usd: Decimal
) -> tuple[list[Proposal], list[dict[str, str]]]:
    """(what is configured, what is left out and why)."""
    chosen: list[Proposal] = []
    skipped: list[dict[str, str]] = []
    count = wanted if isinstance(wanted, int) else len(wanted)
    for proposed in proposals:
        row = within_entry(proposed, entry_usd)
        skipped += [
            {"pair": f"{row.pair} at {venue}", "reason": f"its least entry is {proposed.entry_mins[venue]:.2f}"}
            for venue in sorted(set(proposed.symbols) - set(row.symbols))
        ]
        if not row.usable:
            skipped.append({"pair": row.pair, "reason": row.reason})
        elif len(chosen) < count:
            chosen.append(row)
    return chosen, skipped if not isinstance(wanted, int) else skipped[:SKIPPED_SHOWN]


def _checked(out: Path, text: str) -> EngineConfig:
    """Write the file where it is valid: it takes its place only after that."""
    draft = out.with_name(f".{out.name}.new")
    replace_file(draft, text.encode())
    try:
        config = load_config(draft)
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
    return config


def _limits_shown(config: EngineConfig) -> Mapping[str, Decimal]:
    limits = config.risk_limits
    return {
        "max_notional_usd": config.detection.max_notional_usd,
        "max_position_size_usd": limits.max_position_size_usd,
        "max_total_exposure_usd": limits.max_total_exposure_usd,
        "max_daily_loss_usd": limits.max_daily_loss_usd,
        "max_total_loss_usd": limits.total_loss_usd,
        "min_profit_margin_bps": limits.min_profit_margin_bps,
        "min_profit_usd": limits.min_profit_usd,
    }


def _next(config: EngineConfig, options: InitOptions) -> str:
    if config.mode is not Mode.PAPER:
        keys = keys_for(config, options.name)
        missing = next((exchange for exchange, key in keys.items() if key is None), "")
        if missing:
            return f"arb keys add {missing} --instance {options.name}"
    own = f" --instance {name_of_mode(options.name, Mode.PAPER)}" if config.mode is Mode.PAPER else ""
    return f"arb up --config {options.out}{own}"
