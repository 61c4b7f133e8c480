"""Which dialects there are, and the facts of each that need no code of it: read from its ``manifest.toml``.

A dialect is two folders of one name that never import each other: ``exchanges/NAME`` speaks to the venue,
``sim/wire/NAME`` is a simulated venue of the same wire format. Those of the product lie in ``pipeline/``; ``dialects:
[PATH]`` of a configuration (or :func:`add_root`) names folders that hold pairs from outside, in the same two places
below ``PATH``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import msgspec

from pipeline.model.errors import ConfigInvalid

MARKETS = ("spot", "futures")
MANIFEST = "manifest.toml"
#: Where the two folders of a dialect lie below a root, and the file that makes each of them one.
SIDES = {"exchanges": MANIFEST, "sim/wire": "exchange.py"}
NAME = re.compile(r"[a-z][a-z0-9]{0,31}")
_OWN_ROOT = Path(__file__).resolve().parents[1]
_roots: list[Path] = [_OWN_ROOT]


class MarketFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One market of a dialect.

    ``urls``: ``rest``, ``ws``, ``ws_private``, ``ws_api`` of the venue itself, as a configuration takes them.
    ``order_urls``: which of them orders need beside ``rest`` and ``ws``; without them: market data only.
    ``symbol_form``: regular expression that every symbol of the market matches; ``symbol_example``: BTC/USDT in it.
    ``sequence``: in words, what makes an update the next one of a book (held by the feed codec's ``SequenceRule``).
    ``taker_bps``: base tier's taker fee, for replays of recordings without fees of their own.
    ``orders_per_s``: orders of one account that the venue takes in a second.
    ``proposed``: `arb init` and `arb pairs` take the market where no venues are named.
    ``appended``: URL key -> paths that requests add to it themselves: a URL that ends in one would have it twice.
    """

    urls: Mapping[str, str]
    symbol_form: str
    symbol_example: str
    sequence: str
    taker_bps: str
    orders_per_s: float
    order_urls: tuple[str, ...] = ()
    proposed: bool = False
    appended: Mapping[str, tuple[str, ...]] = {}

    def spell(self, base: str, quote: str) -> str:
        """The market's own name of a pair."""
        return f"{base}{self.symbol_example.removeprefix('BTC').removesuffix('USDT')}{quote}"


class DialectFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A dialect: its markets by name (:data:`MARKETS`).

    ``title``: the company's own spelling. ``trade``: orders can be placed; without it: market data only.
    ``deduction_coins``: coins that the venue may take fees in instead of what is traded. ``one_wallet``: the markets of
    one account spend the same coins, so that each market that trades wants an account of its own.
    """

    title: str
    markets: Mapping[str, MarketFacts]
    trade: bool = True
    deduction_coins: frozenset[str] = frozenset()
    one_wallet: bool = False


def add_root(path: Path) -> None:
    """Dialects below ``path`` (``path/exchanges/NAME`` and ``path/sim/wire/NAME``) are known from now on in this
    process. Raises ``ConfigInvalid`` where there is none, or one has a name that is taken."""
    root = path.resolve()
    if root in _roots:
        return
    found = _names_below(root)
    if not found:
        raise ConfigInvalid(
            [f"dialects: {path} holds no dialect; wanted a folder with exchanges/NAME/{MANIFEST} and sim/wire/NAME/"]
        )
    for name in sorted(found):
        if name in _sides() or (_OWN_ROOT / "exchanges" / name).exists():
            raise ConfigInvalid([f"dialects: {path} has a dialect {name!r}, and there is one of this name already"])
    _roots.append(root)
    _sides.cache_clear()


def roots() -> tuple[Path, ...]:
    """The folders that hold dialects, the product's own first."""
    return tuple(_roots)


def _names_below(root: Path) -> dict[str, dict[str, Path]]:
    """Dialect name -> side -> folder."""
    found: dict[str, dict[str, Path]] = {}
    for side, marker in SIDES.items():
        for path in root.glob(f"{side}/*/{marker}"):
            if NAME.fullmatch(path.parent.name):
                found.setdefault(path.parent.name, {})[side] = path.parent
    return found


@cache
def _sides() -> dict[str, dict[str, Path]]:
    found: dict[str, dict[str, Path]] = {}
    for root in _roots:
        found |= _names_below(root)
    return found


def dialect_names() -> tuple[str, ...]:
    """The dialects with both folders, by name."""
    return tuple(sorted(name for name, sides in _sides().items() if len(sides) == len(SIDES)))


def folder_of(name: str, side: str) -> Path:
    """The folder of one side (a key of :data:`SIDES`). Raises ``ConfigInvalid`` as :func:`dialect_problem` says."""
    problem = dialect_problem(name)
    if problem:
        raise ConfigInvalid([f"dialect: {problem}"])
    return _sides()[name][side]


def dialect_problem(name: str) -> str:
    """Why ``name`` cannot be used as a dialect, in one sentence; "" where it can."""
    sides = _sides().get(name)
    known = ", ".join(dialect_names())
    if not sides:
        return f"found {name!r}, wanted one of {known} (a new one: `arb dialect new {name or 'NAME'}`)"
    missing = [f"{side}/{name}/{marker}" for side, marker in SIDES.items() if side not in sides]
    if missing:
        there = next(iter(sides.values()))
        both = f"{there} is there and {missing[0]} is not"
        return f"found {name!r}, half a dialect: {both}; wanted both folders, or one of {known}"
    try:
        facts_of(name)
    except ConfigInvalid as error:
        return f"found {name!r}: {'; '.join(error.errors)}"
    return ""


@cache
def _read(path: Path) -> DialectFacts:
    try:
        facts = msgspec.toml.decode(path.read_bytes(), type=DialectFacts)
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise ConfigInvalid([f"{path} cannot be read: {error}"]) from None
    odd = [market for market in facts.markets if market not in MARKETS]
    if odd or not facts.markets:
        raise ConfigInvalid([f"{path}: found markets {', '.join(odd) or 'none'}, wanted some of {', '.join(MARKETS)}"])
    return facts


def facts_of(name: str) -> DialectFacts:
    """The facts of a dialect with at least the engine's side. Raises ``ConfigInvalid``."""
    sides = _sides().get(name, {})
    if "exchanges" not in sides:
        raise ConfigInvalid([f"dialect: found {name!r}, wanted one of {', '.join(dialect_names())}"])
    return _read(sides["exchanges"] / MANIFEST)


def symbol_problem(symbol: str, market: MarketFacts) -> str:
    """Why the market cannot have a symbol of this spelling; "" where it can."""
    if not symbol.isascii():
        return f"found {symbol!r}, which is not plain ASCII: no order can name it; leave it out"
    if not re.fullmatch(market.symbol_form, symbol):
        return f"found {symbol!r}, wanted the venue's spelling, as {market.symbol_example}"
    return ""
