"""Every ``parse_*`` function of every dialect as a reader: found by its name, called by the names of its parameters.

So a new answer that a dialect reads is tried without being listed; a parameter of an unknown name is refused. The seeds
are samples of the structs of its module, one and two of each, also in the raw fields of the others, and the answers
that the tests keep of that venue.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from functools import cache, partial
from types import ModuleType
from typing import Any

import msgspec

import pipeline.exchanges
from pipeline.exchanges.base import HttpReply
from pipeline.exchanges.parsing.rows import OddRows
from pipeline.model.dialects import dialect_names
from pipeline.model.errors import ProtocolViolation
from tests.campaigns.fuzz.samples import raw_fields, sample
from tests.paths import REPO

KEPT = [REPO / "tests" / "cases" / folder for folder in ("account", "answers", "instruments", "orders")]
NAMED = {"gateio": "gate"}  # dialect -> the word in the names of kept answers, where it is another
SYMBOLS = ("BTCUSDT", "BTC_USDT")
#: Names of the parameter that an answer goes to.
ANSWERS = ("payload", "result", "rows", "frame", "pages", "reply", "msg")
#: The other parameters: each value of a name is a reader of its own.
OTHERS: dict[str, tuple[Any, ...]] = {
    "venue": ("v",),
    "market": ("spot", "futures"),
    "category": ("spot", "linear"),
    "symbol": SYMBOLS[:1],
    "symbols": (SYMBOLS,),
    "client_id": ("a1b2",),
    "recv_mono_ns": (1,),
    "at_ms": (1,),
    "source": ("rest",),
    "kind": ("LIQUIDATION", "ADL"),
    "listed_in": ("liquidates", "auto_deleverages"),
    "multipliers": ({"BTC_USDT": Decimal("0.0001")},),
    **dict.fromkeys(("fees", "coins", "prices", "quotes", "terms"), ({},)),
}
#: What a function documents that it raises beside errors of ours.
RAISES: dict[str, tuple[type[Exception], ...]] = {"gateio.account.parse_push": (KeyError,)}

Parser = tuple[str, list[bytes], Callable[[bytes], Any], tuple[type[Exception], ...]]


def parsers(dialects: Iterable[str] = dialect_names()) -> Iterator[Parser]:
    """(name, seeds, call with an answer, what it may raise beside errors of ours)."""
    for dialect in dialects:
        package = importlib.import_module(f"{pipeline.exchanges.__name__}.{dialect}")
        kept = [path.read_bytes() for path in _kept(dialect)]
        for found in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{package.__name__}.{found.name}")
            functions = inspect.getmembers(module, inspect.isfunction)
            ours = [(name, one) for name, one in functions if one.__module__ == module.__name__]
            for name, function in ours:
                if name.startswith("parse_"):
                    full = f"{dialect}.{found.name}.{name}"
                    seeds = [*_samples(module), *kept]
                    yield from ((*one, RAISES.get(full, ())) for one in _calls(full, function, seeds))


def _kept(dialect: str) -> list[Any]:
    word = NAMED.get(dialect, dialect)
    return sorted(path for folder in KEPT for path in folder.glob(f"*{word}*.json"))


@cache
def _samples(module: ModuleType) -> list[bytes]:
    structs = [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, msgspec.Struct) and not kind.__struct_config__.frozen
    ]
    found: list[Any] = []
    for kind in structs:
        one = sample(kind)
        found += [one, [one, one]]
        for other, field in itertools.product(structs, raw_fields(kind)):
            if other is not kind and isinstance(one, dict):
                found.append({**one, field: [sample(other)]})
    return [json.dumps(value).encode() for value in found] or [b"{}", b"[]"]


def _calls(full: str, function: Callable[..., Any], seeds: list[bytes]) -> Iterator[tuple[str, list[bytes], Any]]:
    """One reader for each choice of the function's other parameters."""
    types = inspect.get_annotations(function, eval_str=True)
    names = list(inspect.signature(function).parameters)
    answers = [name for name in names if name in ANSWERS]
    wanted = inspect.signature(function).parameters
    others = [name for name in names if name not in answers and (name in OTHERS or _needed(wanted[name]))]
    unknown = [name for name in others if name not in OTHERS and name != "odd"]
    if len(answers) != 1 or unknown:
        raise TypeError(f"{full}: found parameters {names}, wanted one of {ANSWERS} and others that OTHERS knows")
    chosen = [name for name in others if name in OTHERS]
    for values in itertools.product(*(OTHERS[name] for name in chosen)):
        given = dict(zip(chosen, values, strict=True))
        several = [str(value) for name, value in given.items() if len(OTHERS[name]) > 1]
        call = partial(_call, function, answers[0], types[answers[0]], given, "odd" in names)
        yield " ".join([full, *several]), seeds, call


def _needed(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty


def _call(
    function: Callable[..., Any], name: str, kind: Any, given: dict[str, Any], with_odd: bool, data: bytes
) -> Any:
    more = {"odd": OddRows()} if with_odd else {}
    found = function(**given, **more, **{name: _answer(name, kind, data)})
    if function.__name__ == "parse_risk_tiers":
        return [*found[:-1], *(tier[1:] for tier in found[-1:])]  # that the last cap is infinite is our own word
    return list(found) if inspect.isgenerator(found) else found


def _answer(name: str, kind: Any, data: bytes) -> Any:
    if name == "pages":
        return [data]
    if kind is HttpReply:
        return HttpReply(status=200, headers={}, body=data, recv_mono_ns=5)
    if kind is str:
        return data.decode("utf-8", "replace")
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        try:
            return msgspec.json.decode(data, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ProtocolViolation(str(error), venue="v") from None
    return data
