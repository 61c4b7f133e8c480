"""The venues that an operator means, as configured ones: URLs from the dialects' manifests, or given in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from pipeline.model.config import EngineConfig, VenueConfig
from pipeline.model.config_load import config_from_mapping
from pipeline.model.dialects import MARKETS, dialect_names, facts_of
from pipeline.model.enums import Mode
from pipeline.model.errors import BadInput

URL_KEYS = ("rest", "ws", "ws_private", "ws_api")
Urls = Mapping[str, Mapping[str, str]]  # by venue, then by URL key


def known_venues() -> list[str]:
    """Every venue that a dialect brings, as ``exchange_market``."""
    return [f"{name}_{market}" for name in dialect_names() for market in MARKETS if market in facts_of(name).markets]


def proposed_venues() -> list[str]:
    """The venues that are taken where none are named."""
    return [
        name for name in known_venues() if facts_of(name.rpartition("_")[0]).markets[name.rpartition("_")[2]].proposed
    ]


def read_urls(path: Path) -> dict[str, dict[str, str]]:
    """URLs by venue from a file: the JSON line of ``arb sim``, or a configuration. Raises BadInput."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise BadInput(f"--urls: {path} cannot be read: {reason}") from None
    found: dict[str, dict[str, str]] = {}
    if isinstance(data, dict) and isinstance(data.get("venues"), dict):
        found = {str(name): _urls(row) for name, row in data["venues"].items()}
    elif isinstance(data, dict) and isinstance(data.get("exchanges"), dict):
        for exchange, entry in data["exchanges"].items():
            markets = entry.get("markets", {}) if isinstance(entry, dict) else {}
            found |= {f"{exchange}_{market}": _urls(row) for market, row in markets.items()}
    if not found:
        raise BadInput(f"--urls: found no venues in {path}, wanted the JSON of `arb sim` or a configuration")
    return found


def _urls(row: Any) -> dict[str, str]:
    return {key: str(row[key]) for key in URL_KEYS if row.get(key)} if isinstance(row, dict) else {}


def exchange_section(names: Sequence[str], urls: Urls) -> dict[str, Any]:
    """``exchanges`` of a configuration with the venues ``names``, without symbols. Raises BadInput for an unknown
    venue."""
    section: dict[str, Any] = {}
    known = known_venues()
    for name in dict.fromkeys(names):
        exchange, _, market = name.rpartition("_")
        if name not in known:
            raise BadInput(f"--venues: found {name!r}, wanted some of {', '.join(known)}")
        facts = facts_of(exchange)
        entry = section.setdefault(exchange, {"dialect": exchange, "markets": {}})
        if not facts.trade:
            entry["trade"] = False
        entry["markets"][market] = dict(urls.get(name) or facts.markets[market].urls)
    return section


def planned_config(names: Sequence[str], urls: Urls, mode: Mode) -> EngineConfig:
    """A checked configuration of these venues without symbols. Raises BadInput, ConfigInvalid."""
    return config_from_mapping({"mode": mode.value, "exchanges": exchange_section(names, urls)})


def with_symbols(venue: VenueConfig, symbols: Sequence[str]) -> VenueConfig:
    """The same venue with other symbols."""
    return msgspec.structs.replace(venue, symbols=tuple(symbols))
