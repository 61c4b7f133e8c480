"""The page of refusals: why an opportunity was not taken, by the names that ``arb status`` counts."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.model.enums import Refusal
from pipeline.risk.rules import RULES
from workers.reference.markdown import cell, code, page, table
from workers.reference.source_text import comments_of

EXECUTOR_FROM = 100  # numbers from here on are given by the executor alone
INTRODUCTION = (
    "The first gate that refuses an opportunity counts it, under these names: `arb status` (`opportunities.refused`), "
    "`arb status --refused BTC/USDT` for one pair, `arb why NUMBER` for one opportunity with its books. The numbers "
    "stand in journals. Limits: keys of the [configuration](configuration.md) that set them."
)


def refusals_page() -> str:
    """The page, as Markdown."""
    detector = [one for one in Refusal if 0 < one < EXECUTOR_FROM]
    executor = [one for one in Refusal if one >= EXECUTOR_FROM]
    return page(
        "Refusals",
        INTRODUCTION,
        "## Given by the detector, and by the executor where it finds the same again",
        _table(detector),
        "## Given by the executor alone",
        _table(executor),
    )


def _table(members: Iterable[Refusal]) -> str:
    said = comments_of(Refusal)
    limits: dict[Refusal, dict[str, None]] = {}
    for rule in RULES:
        limits.setdefault(rule.refusal, {}).update(dict.fromkeys(rule.limits))
    return table(
        ("name", "number", "means", "limits"),
        (
            (code(one.name.lower()), str(one.value), cell(said[one.name]), ", ".join(map(code, limits.get(one, {}))))
            for one in members
        ),
    )
