"""Scenario files: venues, coins and pairs, how the market moves, what goes wrong, the engine's configuration.

A scenario is YAML; ``extends: NAME`` deep-merges it over another one (mappings merge, everything else replaces; a key
set to null is removed). The names of the packaged scenarios are the files of ``pipeline/sim/scenarios``. Unknown keys
are refused and every error is listed.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import yaml

from pipeline.model.dialects import add_root
from pipeline.model.enums import InstrumentKind
from pipeline.model.errors import ConfigInvalid
from pipeline.sim.exchange.accounts import ACCOUNT_MODES
from pipeline.sim.exchange.fault_kinds import ACTION, FAULT_KINDS
from pipeline.sim.exchange.latency import LatencyProfile
from pipeline.sim.exchange.paths import Path as TimePath
from pipeline.sim.exchange.paths import path_error, value_at

SCENARIO_DIR = Path(__file__).resolve().parent
EXTENDS_MAX = 8  # a chain longer than this is a circle


class CoinSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A coin as one venue knows it: networks as [name, contract address] ("" for a native coin)."""

    networks: tuple[tuple[str, str], ...] = ()
    deposit: bool = True
    withdraw: bool = True


class TierSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A risk limit tier: positions up to ``cap`` quote coins; maintenance = value x ``maintenance_rate`` -
    ``deduction``."""

    cap: Decimal
    maintenance_rate: Decimal
    leverage_max: int
    deduction: Decimal = Decimal(0)


class ListingSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pair on one venue: the instrument row, and how its book differs from the others'.

    ``basis_bps``: structural offset from the fair price, a number or a path [[second, bps], ...]; ``funding_path``:
    [[second, rate], ...], in place of ``funding_rate``. Paths are linear between their points and constant outside;
    seconds count from the market's start, in `arb demo` from the engine's READY. ``risk_tiers``: rising caps, in place
    of ``maintenance_rate`` and ``leverage_max``.
    """

    symbol: str
    tick: Decimal
    lot: Decimal
    unit: Decimal | None = None  # book quantum; default the lot
    multiplier: Decimal = Decimal(1)
    min_qty: Decimal = Decimal(0)
    max_qty: Decimal = Decimal(0)
    min_notional: Decimal = Decimal(0)
    max_notional: Decimal = Decimal(0)
    rate: float = 1.0  # factor on the pair's event rate
    spread: float = 1.0  # factor on the pair's spread
    basis_bps: float | TimePath = 0.0
    status: str = "TRADING"
    funding_rate: Decimal = Decimal(0)
    funding_interval_s: int = 0
    funding_path: TimePath = ()
    maintenance_rate: Decimal = Decimal("0.005")
    leverage_max: int = 100
    risk_tiers: tuple[TierSpec, ...] = ()

    def basis_at(self, at_s: float) -> float:
        """The structural offset at a time, bps."""
        return value_at(self.basis_bps, at_s) if isinstance(self.basis_bps, tuple) else self.basis_bps


class PairSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One canonical pair.

    ``rate_per_s``: mean book events a second of one listing; ``clustering``: share of them that earlier ones excite
    (Hawkes branching ratio); ``vol_bps``: standard deviation of the fair price over one second; ``jump_bps``: largest
    jump; ``spread_bps``: mean distance from best bid to best ask; ``top_usd``/``level_usd``: median value of the best
    and of a deeper level; ``edits``: mean further level changes of one event; ``derived``: [A/Q, B/Q] makes the fair
    price A / B (a triangle's third side). ``path``: [[second, factor], ...] multiplies the fair price, linear between
    the points: [[15, 1], [75, 1.6]] is a rise of 60 % in one minute.
    """

    price: float
    rate_per_s: float
    vol_bps: float
    spread_bps: float
    top_usd: float
    level_usd: float
    clustering: float = 0.5
    jump_bps: float = 1.5
    jump_share: float = 0.03
    edits: float = 2.0
    depth: int = 40
    gap_bps: float = 0.6  # mean distance between neighbouring levels
    noise_bps: float = 0.2  # a venue's own wandering around the fair price, standard deviation
    trade_share: float = 0.12  # events that are a trade at the best level
    derived: tuple[str, str] | None = None
    path: TimePath = ()
    dislocation_weight: float = 1.0
    listings: dict[str, ListingSpec] = {}

    def factor_at(self, at_s: float) -> float:
        """What the path multiplies the fair price with at a time; 1 without a path."""
        return value_at(self.path, at_s) if self.path else 1.0


class FeeDeductionSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fees are paid in ``coin`` (GT, POINT, MX) while the stock lasts; ``balance``: the stock at the start.

    ``price``: settlement coins per coin; ``rate``: what is charged of the plain fee (0.9 = 10 % off).
    """

    coin: str
    price: Decimal = Decimal(1)
    rate: Decimal = Decimal(1)
    balance: Decimal = Decimal(0)
    enabled: bool = True


class VenueSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One venue. ``lag_ms``: how far its makers are behind the fair price (0 leads).

    ``leverage``, ``margin_mode``: of contracts that no user has set; ``position_mode``: of the account (futures).
    """

    kind: str  # spot | futures
    lag_ms: float = 0.0
    latency: dict[str, float] = {}
    ticker_interval_ms: int = 10
    taker_fee_ppm: int = 200
    maker_fee_ppm: int = 0
    list_taker_fee_ppm: int = 1000
    list_maker_fee_ppm: int = 1000
    fee_rule: str = "QUOTE"
    refill_ms: float = 400.0
    rejects_unfillable: bool = True
    balances: dict[str, Decimal] = {}
    fee_deduction: FeeDeductionSpec | None = None
    leverage: int = 10
    margin_mode: str = "isolated"  # isolated | cross
    position_mode: str = "single"  # single | dual
    coins: dict[str, CoinSpec] = {}  # overrides of the scenario's coins

    @property
    def instrument_kind(self) -> InstrumentKind:
        """Perpetual for ``futures``, else spot."""
        return InstrumentKind.PERPETUAL if self.kind == "futures" else InstrumentKind.SPOT

    @property
    def latency_profile(self) -> LatencyProfile:
        """The latencies with their defaults; microseconds."""
        return LatencyProfile(**self.latency)


class DislocationSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often prices part and how long it lasts.

    ``edge_bps``: range of the edge after both fees at birth; survival against rivals is 1 / (1 + t / half_life_ms);
    ``attractive_first``: share that ends by the far-off leg being taken (else the other leg moves away).
    """

    rate_per_s: float = 0.0
    edge_bps: tuple[float, float] = (5.0, 40.0)
    half_life_ms: float = 50.0
    life_max_ms: float = 1500.0
    attractive_first: float = 0.75
    nibble_share: float = 0.3  # lives during which a rival takes a part before the end
    notional_usd: tuple[float, float] = (300.0, 6000.0)
    triangle_share: float = 0.1
    start_after_s: float = 0.0
    pair_gap_ms: float = 0.0  # quiet time of a pair after one; 0 = the next may overlap on other listings


class KeySpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One API key of an account. ``can_trade`` False = read-only."""

    api_key: str
    api_secret: str
    can_trade: bool = True


class AccountSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of one exchange's account. The first is the engine's; more may belong to a guard or a reader."""

    uid: str
    keys: tuple[KeySpec, ...]


class ExchangeSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One exchange. ``dialect``: a folder of ``wire/``; ``account_mode``: classic or a unified one (Gate.io)."""

    dialect: str
    account_mode: str = "classic"
    account: AccountSpec | None = None
    venues: dict[str, VenueSpec] = {}  # by market: spot, futures


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole scenario file, validated. ``engine`` is configuration that ``engine_config`` passes to the engine."""

    name: str
    description: str = ""
    seed: int = 1
    expect_no_orders: bool = False  # a null market: any order is a failure
    exchanges: dict[str, ExchangeSpec] = {}
    dialects: tuple[str, ...] = ()  # folders with dialects from outside, as in the engine's configuration
    coins: dict[str, CoinSpec] = {}
    pairs: dict[str, PairSpec] = {}
    dislocations: DislocationSpec = DislocationSpec()
    faults: tuple[dict[str, Any], ...] = ()
    engine: dict[str, Any] = {}

    @property
    def venue_names(self) -> list[str]:
        """``<exchange>_<market>`` of every venue."""
        return [f"{exchange}_{market}" for exchange, spec in self.exchanges.items() for market in spec.venues]

    def only(self, venues: Collection[str]) -> Scenario:
        """The same market with these venues alone. Raises ``ConfigInvalid`` for names that it has not, and for none."""
        unknown = sorted(set(venues) - set(self.venue_names))
        if unknown or not venues:
            found = ", ".join(unknown) or "none"
            raise ConfigInvalid([f"venues: found {found}, wanted some of {', '.join(self.venue_names)}"])
        exchanges = {}
        for exchange, spec in self.exchanges.items():
            kept = {market: row for market, row in spec.venues.items() if f"{exchange}_{market}" in venues}
            if kept:
                exchanges[exchange] = msgspec.structs.replace(spec, venues=kept)
        pairs = {
            pair: msgspec.structs.replace(
                row, listings={venue: listing for venue, listing in row.listings.items() if venue in venues}
            )
            for pair, row in self.pairs.items()
        }
        return msgspec.structs.replace(self, exchanges=exchanges, pairs=pairs)

    def lasts_s(self) -> float:
        """When the last thing is over that is prepared for a time: faults have begun, what the world does has ended,
        paths too. 0 = nothing is."""
        times = [float(raw.get("at_s", 0)) + _acts_for_s(raw) for raw in self.faults]
        paths = [pair.path for pair in self.pairs.values()]
        for listing in (row for pair in self.pairs.values() for row in pair.listings.values()):
            paths.append(listing.funding_path)
            paths.append(listing.basis_bps if isinstance(listing.basis_bps, tuple) else ())
        return max([0.0, *times, *(path[-1][0] for path in paths if path)])

    def venue(self, name: str) -> VenueSpec:
        """The venue of a name; raises ``KeyError``."""
        exchange, _, market = name.rpartition("_")
        return self.exchanges[exchange].venues[market]


def _acts_for_s(raw: dict[str, Any]) -> float:
    """How long an action goes on from its time; a rule is armed then."""
    kind = FAULT_KINDS.get(raw.get("kind", ""))
    if kind is None or kind.acts_on != ACTION or "duration_ms" not in kind.fields:
        return 0.0
    return (float(raw.get("delay_ms", 0)) + float(raw.get("duration_ms", 0))) / 1000


def scenario_names() -> list[str]:
    """Names of the packaged scenarios."""
    return sorted(path.stem for path in SCENARIO_DIR.glob("*.yaml"))


def load_scenario(source: str | Path | dict[str, Any] | None = None) -> Scenario:
    """Loads by packaged name, file path or mapping (default ``demo``). Raises ``ConfigInvalid`` with every error."""
    raw = _expand(source if source is not None else "demo", 0)
    try:
        scenario = msgspec.convert(raw, Scenario, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigInvalid([f"scenario {raw.get('name', source)}: {error}"]) from error
    for root in scenario.dialects:
        add_root(Path(root))
    errors = _check(scenario)
    if errors:
        raise ConfigInvalid([f"scenario {scenario.name}: {line}" for line in errors])
    return scenario


def _expand(source: str | Path | dict[str, Any], depth: int, folder: Path | None = None) -> dict[str, Any]:
    if depth > EXTENDS_MAX:
        raise ConfigInvalid([f"scenario: extends goes deeper than {EXTENDS_MAX}: a circle?"])
    if isinstance(source, dict):
        raw = dict(source)
    else:
        raw = _read(str(source), folder)
        folder = Path(str(source)).resolve().parent if _is_path(str(source)) else folder
    base = raw.pop("extends", None)
    if base is None:
        return raw
    return _merge(_expand(str(base), depth + 1, folder), raw)


def _is_path(text: str) -> bool:
    return "/" in text or text.endswith((".yaml", ".yml"))


def _read(text: str, folder: Path | None) -> dict[str, Any]:
    path = Path(text) if _is_path(text) else SCENARIO_DIR / f"{text}.yaml"
    if not path.is_absolute() and not path.exists() and folder is not None:
        path = folder / text
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        known = ", ".join(scenario_names())
        raise ConfigInvalid([f"scenario {text}: cannot be read ({error.strerror}); packaged: {known}"]) from error
    except yaml.YAMLError as error:
        raise ConfigInvalid([f"scenario {text}: not YAML: {error}"]) from error
    if not isinstance(raw, dict):
        raise ConfigInvalid([f"scenario {text}: wants a mapping, found {type(raw).__name__}"])
    raw.setdefault("name", path.stem)
    return raw


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _check(scenario: Scenario) -> list[str]:
    errors = []
    names = set(scenario.venue_names)
    for exchange, spec in scenario.exchanges.items():
        if not re.fullmatch(r"[a-z][a-z0-9]*", exchange):
            errors.append(f"exchanges.{exchange}: wants lower-case letters and digits")
        for market in spec.venues:
            if market not in ("spot", "futures"):
                errors.append(f"exchanges.{exchange}.venues.{market}: wants spot or futures")
            if spec.venues[market].margin_mode not in ("isolated", "cross"):
                errors.append(f"exchanges.{exchange}.venues.{market}.margin_mode: wants isolated or cross")
            if spec.venues[market].position_mode not in ("single", "dual"):
                errors.append(f"exchanges.{exchange}.venues.{market}.position_mode: wants single or dual")
        if spec.account_mode not in ACCOUNT_MODES:
            errors.append(f"exchanges.{exchange}.account_mode: wants one of {', '.join(ACCOUNT_MODES)}")
    for pair, row in scenario.pairs.items():
        if pair.count("/") != 1:
            errors.append(f"pairs.{pair}: wants BASE/QUOTE")
        if min(row.price, row.rate_per_s, row.spread_bps, row.top_usd, row.level_usd, row.gap_bps) <= 0:
            errors.append(f"pairs.{pair}: price, rates, spread, sizes and gap must be positive")
        if not 0 <= row.clustering < 0.95:
            errors.append(f"pairs.{pair}.clustering: wants 0 <= c < 0.95, found {row.clustering}")
        if bad := path_error(row.path):
            errors.append(f"pairs.{pair}.path: {bad}")
        if any(factor <= 0 for _, factor in row.path):
            errors.append(f"pairs.{pair}.path: factors must be positive")
        if row.path and row.derived:
            errors.append(f"pairs.{pair}.path: a derived pair follows the pairs that it is derived from")
        for venue, listing in row.listings.items():
            if venue not in names:
                errors.append(f"pairs.{pair}.listings.{venue}: no such venue; venues: {sorted(names)}")
            errors += _check_listing(f"pairs.{pair}.listings.{venue}", listing)
        for other in row.derived or ():
            if other not in scenario.pairs or scenario.pairs[other].derived:
                errors.append(f"pairs.{pair}.derived: {other} is not a plain pair of this scenario")
    spec_of = scenario.dislocations
    if spec_of.rate_per_s < 0 or spec_of.half_life_ms <= 0 or spec_of.edge_bps[0] > spec_of.edge_bps[1]:
        errors.append("dislocations: rate_per_s >= 0, half_life_ms > 0, edge_bps [low, high]")
    return errors


def _check_listing(where: str, listing: ListingSpec) -> list[str]:
    errors = []
    if listing.basis_bps == ():
        errors.append(f"{where}.basis_bps: wants a number or at least one point")
    basis = listing.basis_bps if isinstance(listing.basis_bps, tuple) else ()
    for name, path in (("basis_bps", basis), ("funding_path", listing.funding_path)):
        if bad := path_error(path):
            errors.append(f"{where}.{name}: {bad}")
    caps = [tier.cap for tier in listing.risk_tiers]
    if caps != sorted(set(caps)):
        errors.append(f"{where}.risk_tiers: caps must rise, found {[str(cap) for cap in caps]}")
    return errors
