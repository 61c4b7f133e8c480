"""What init, pairs, doctor and keys print as text."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as columns, the last one not padded."""
    if not rows:
        return ""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    )


def _volume(value: Decimal | None) -> str:
    return "unknown" if value is None else f"{value:,.0f}"


def pairs_text(fields: dict[str, Any]) -> str:
    """The proposals as a table."""
    rows = [("pair", "identity", "24 h volume", "least entry", "where, or why not")]
    for row in fields["pairs"]:
        where = ", ".join(f"{venue} {symbol}" for venue, symbol in row["symbols"].items())
        rows.append(
            (
                row["pair"],
                row["identity"],
                _volume(row["day_volume"]),
                f"{max(row['entry_mins'].values(), default=0):.2f}",
                row["reason"] or where,
            )
        )
    usable = sum(row["usable"] for row in fields["pairs"])
    shown = f"{usable} of the {len(rows) - 1} shown can be traded"
    head = f"{', '.join(fields['venues'])} share {fields['shared']} pairs; {shown}"
    return f"{head}\n{table(rows)}"


def init_text(fields: dict[str, Any]) -> str:
    """What was written, what was left out, what live still lacks, and the next command."""
    lines = [
        f"{fields['config']}: written for {fields['capital_usd']:f} USD, profile {fields['profile']}, "
        f"mode {fields['mode']}",
        f"pairs   {len(fields['pairs'])}: {', '.join(fields['pairs'])}",
        "limits  " + ", ".join(f"{key} {value:f}" for key, value in fields["limits"].items()),
    ]
    lines += [f"left out  {row['pair']}: {row['reason']}" for row in fields["skipped"]]
    lines.append("before live trading:")
    for row in fields["ready_for_live"]:
        lines.append(f"  {'needed ' if row['needed'] else 'advised'}  {row['what']}: {row['solve']}")
    lines.append(f"next: {fields['next']}")
    return "\n".join(lines)


def checks_text(fields: dict[str, Any]) -> str:
    """Rows of a check; what mends a row stands below it."""
    rows = fields["checks"]
    width = max((len(row["name"]) for row in rows), default=0)
    lines = []
    for row in rows:
        lines.append(f"{row['state']:<8}{row['name']:<{width}}  {row['found']}")
        if row["fix"]:
            lines.append(f"{'':<8}{'':<{width}}  wanted {row['want']}: {row['fix']}")
    counts = {state: sum(row["state"] == state for row in rows) for state in ("ok", "warn", "fail", "unknown")}
    return "\n".join([*lines, ", ".join(f"{count} {state}" for state, count in counts.items())])


def host_text(fields: dict[str, Any]) -> str:
    """The plan, or what was read back: CPUs, settings with what is wanted of them, what only a boot changes."""
    lines = list(fields["notes"])
    if fields["processes"]:
        rows = (f"{name}: {{cpus: {row['cpus']}, wait: {row['wait']}}}" for name, row in fields["processes"].items())
        lines += ["in the configuration:", "  processes:", *(f"    {row}" for row in rows)]
    lines += _settings_lines(fields["settings"])
    if fields["kernel"]:
        lines.append(f"kernel command line, from the next boot on: {' '.join(fields['kernel'])}")
    if any(row["state"] == "differs" for row in fields["settings"]):
        lines.append("`arb host apply` sets what differs (root), `arb host revert` takes it back")
    return "\n".join(lines) or "nothing was changed by `arb host apply`"


def _settings_lines(settings: Sequence[dict[str, Any]]) -> list[str]:
    """A line a kind of setting: files of the same kind (CPUs, interrupts) that say and want the same are one."""
    same: dict[tuple[str, str, str], list[str]] = {}
    for row in settings:
        same.setdefault((row["why"], row["found"], row["want"]), []).append(row["path"])
    lines = []
    for (why, found, want), paths in same.items():
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        if found == want:
            lines.append(f"ok       {paths[0]}{more}: {found}")
        else:
            lines.append(f"differs  {paths[0]}{more}: found {found or 'nothing'}, wanted {want}: {why}")
    return lines
