"""The page of the simulator's faults and of what its world does: kinds, fields, examples, out of their table."""

from __future__ import annotations

import json

from pipeline.sim.exchange.fault_kinds import ACTION, FAULT_KINDS, KIND, REQUEST, STREAM, FaultField
from workers.reference.markdown import cell, code, page, table

INTRODUCTION = (
    "What can be done to the simulated exchanges of `arb sim` and `arb demo --hold`: `POST` one rule or a list as JSON "
    "to `CONTROL/faults`. CONTROL is the URL `control` in the line that `arb sim` prints, and in `sim` of `arb demo "
    "--json`. `GET CONTROL/faults` (`?kind=NAME`: one of them) tells the same as this page, and which rules are armed; "
    "`DELETE CONTROL/faults` disarms them. VENUE and SYMBOL of the examples: names of that line. A scenario file has "
    "the same rules under `faults`."
)
EXAMPLE = (
    "```bash\ncurl -s CONTROL/faults -d "
    '\'{"kind": "move_price", "symbol": "ETH/USDT", "amount": "-30%", "duration_ms": 60000}\'\n```'
)
GROUPS = {
    ACTION: ("What the world does", "Done at once, or `at_s` seconds from now."),
    REQUEST: ("Faults of requests", "Armed: they hit requests and orders as they come."),
    STREAM: ("Faults of streams", "Armed: they hit frames and handshakes as they come."),
}
COMMON = ("venue", "target", "symbol", "after", "count", "probability", "duration_ms", "at_s")


def faults_page() -> str:
    """The page, as Markdown."""
    parts = []
    for group, (title, words) in GROUPS.items():
        kinds = {name: kind for name, kind in FAULT_KINDS.items() if kind.acts_on == group}
        shared = [name for name in COMMON if len({str(kind.fields.get(name)) for kind in kinds.values()}) == 1]
        fields = {name: row for kind in kinds.values() for name, row in kind.fields.items() if name in shared}
        rows = [
            (
                code(name),
                cell(kind.does),
                "<br>".join(_field(own, row) for own, row in kind.fields.items() if own not in shared),
                code(json.dumps({"kind": name, **kind.example})),
            )
            for name, kind in kinds.items()
        ]
        parts += [f"## {title}", f"{words} Every kind of these reads:"]
        parts += ["\n".join(f"- {_field(name, row)}" for name, row in {"kind": KIND, **fields}.items())]
        parts += [table(("kind", "what happens", "reads besides", "example"), rows)]
    return page("Faults of the simulator", INTRODUCTION, EXAMPLE, *parts)


def _field(name: str, row: FaultField) -> str:
    """Name, unit, what it is, and what holds where it is left out."""
    if row.required:
        rest = "; must be named"
    else:
        rest = f"; default {code(row.default)}" if row.default != "" else ""
    choices = f"; one of {', '.join(code(one) for one in row.choices if one)}" if row.choices else ""
    return f"{code(name)} ({cell(row.unit)}): {cell(row.says)}{choices}{rest}"
