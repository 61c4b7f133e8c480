"""The page of commands: what every ``--help`` says, all at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup

from workers.cli.app import app
from workers.reference.markdown import cell, code, page, table

INTRODUCTION = (
    "Every command has `--help` and `--json` (one JSON object on stdout, prose on stderr; what runs on, `arb up`, `arb "
    "top` and `arb logs -f`, writes one object a line). Exit codes: 0 done and healthy, 1 done but a check failed, 2 "
    "bad usage or configuration, 3 could not start, 130 interrupted."
)


def leaves(group: TyperGroup, prefix: str = "arb") -> Iterator[tuple[str, Any]]:
    """(words, command) of every command that can be called, in the order of ``arb --help``."""
    for name, command in group.commands.items():
        words = f"{prefix} {name}"
        if isinstance(command, TyperGroup):
            yield from leaves(command, words)
        elif not command.hidden:
            yield words, command


def commands_page() -> str:
    """The page, as Markdown."""
    root = typer.main.get_command(app)
    if not isinstance(root, TyperGroup):
        raise TypeError(f"the command line is {type(root).__name__}, wanted a group of commands")
    found = list(leaves(root))
    index = table(("command", "does"), ((f"[`{words}`](#{anchor(words)})", cell(_first(c.help))) for words, c in found))
    return page("Commands", INTRODUCTION, index, *(_section(words, command) for words, command in found))


def anchor(words: str) -> str:
    """What the heading of a command is linked by."""
    return words.replace(" ", "-")


def _first(text: str | None) -> str:
    return " ".join((text or "").split("\n\n", maxsplit=1)[0].split())


def _section(words: str, command: Any) -> str:
    arguments = [param for param in command.params if param.param_type_name == "argument" and not param.hidden]
    options = [param for param in command.params if param.param_type_name != "argument" and not param.hidden]
    usage = " ".join([words, *(_argument(param) for param in arguments)])
    said = "\n\n".join(" ".join(part.split()) for part in (command.help or "").split("\n\n"))
    rows = [(code(_argument(param)), cell(param.help or "")) for param in arguments]
    rows += [(code(_option(param)), cell(_with_default(param))) for param in options if param.name != "help"]
    parts = [f"## {words}", said, f"    {usage}" + (" [OPTIONS]" if options else "")]
    return "\n\n".join([*parts, table(("argument or option", "means"), rows)] if rows else parts)


def _argument(param: Any) -> str:
    name = (param.metavar or str(param.name).upper()).strip("[]{}")
    more = "..." if param.nargs == -1 and "..." not in name else ""
    return f"{name}{more}" if param.required else f"[{name}]{more}"


def _option(param: Any) -> str:
    value = "" if param.is_flag else f" {param.metavar or str(param.name).upper()}"
    return ", ".join(param.opts) + value


def _with_default(param: Any) -> str:
    text = param.help or ""
    given = param.default
    if param.is_flag or given in (None, "", [], ()) or "efault" in text or callable(given):
        return text
    return f"{text} Default: {getattr(given, 'value', given)}."
