"""``arb halt``: in force before the other commands, their options and help texts are loaded."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from pipeline.model.errors import ArbitrageEngineError
from workers.control_plane.instances import existing, is_running
from workers.exit_codes import EXIT_OK
from workers.halting import halt_instance
from workers.output import emit, say
from workers.state_folder import instance_dir

VALUES = ("--reason", "--instance")


def halt_named(instance: str, reason: str, *, as_json: bool) -> int:
    """Halt ``instance`` ("": the only running one) and print what is in force; the exit code.

    Raises BadInput, ControlError, OutputLost.
    """
    name = existing(instance)
    reply = halt_instance(instance_dir(name), reason)
    if "warning" in reply:
        say(f"arb: {name}: {reply['warning']}")
    fields = {"halted": reply["halted"], "reason": reply["reason"], "running": is_running(name)}
    fields |= {"blocking": [], "adopted": []}  # of `arb resume`: the two have the same fields
    emit(fields, as_json=as_json, text=lambda r: f"{name}: HALTED ({r['reason']})")
    return EXIT_OK


def halt_at_once(arguments: Sequence[str]) -> int | None:
    """The exit code of ``arb halt`` with ``arguments``; None for every other command, and for a halt that was refused
    or is spelled in another way: the whole command line takes it then, and says what is wrong with it."""
    options = _options(arguments[1:]) if arguments and arguments[0] == "halt" else None
    if options is None:
        return None
    with contextlib.suppress(ArbitrageEngineError, OSError):
        return halt_named(options.get("--instance", ""), options.get("--reason", ""), as_json="--json" in options)
    return None


def _options(words: Sequence[str]) -> dict[str, str] | None:
    """``--name VALUE``, ``--name=VALUE`` and ``--json`` as a mapping; None where there is anything else."""
    found: dict[str, str] = {}
    rest = list(words)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if name in VALUES and (equals or rest):
            found[name] = value if equals else rest.pop(0)
        elif name == "--json" and not equals:
            found[name] = ""
        else:
            return None
    return found
