"""The page of venues: what the dialects' manifests say."""

from __future__ import annotations

from pipeline.model.dialects import dialect_names, facts_of
from workers.reference.markdown import cell, code, page, table

INTRODUCTION = (
    "One row for each market of the dialects that come along: `dialect` and market name it in `exchanges` of the "
    "[configuration](configuration.md). `arb dialect list` shows those from outside, too. The fee is the base tier's, "
    "for replays; a running engine reads the account's own."
)


def venues_page() -> str:
    """The page, as Markdown."""
    rows = []
    for name in dialect_names():
        facts = facts_of(name)
        for market, said in facts.markets.items():
            orders = "orders" if facts.trade else "books alone"
            urls = "<br>".join(f"`{key}`: {code(url)}" for key, url in said.urls.items())
            fee = f"{said.taker_bps} bps"
            rows.append(
                (
                    cell(facts.title),
                    code(name),
                    market,
                    orders,
                    code(said.symbol_example),
                    fee,
                    cell(said.sequence),
                    urls,
                )
            )
    header = ("exchange", "dialect", "market", "engine", "symbol", "taker fee", "sequence of a book", "URLs")
    return page("Venues and their markets", INTRODUCTION, table(header, rows))
