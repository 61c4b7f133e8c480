"""The command that starts an instance again as it was started, for every text that names it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from pipeline.model.enums import Mode


def start_hint(described: Mapping[str, Any]) -> str:
    """``arb up`` with what its last start had; under one unit a process, what starts the units. ``described``: content
    of ``run.json``; what that lacks is left out.

    Without the mode and the instance a live instance with open hedges would begin as paper, or be another one.
    """
    if described.get("units"):
        return f"systemctl start arb@{described['instance']}.target"
    words = ["arb up"]
    for option, key in (("--config", "config"), ("--mode", "mode"), ("--instance", "instance")):
        if described.get(key):
            words += [option, shlex.quote(str(described[key]))]
    if described.get("mode") == Mode.LIVE and described.get("instance"):
        words += ["--i-understand-live-trading", shlex.quote(str(described["instance"]))]
    if described.get("passphrase"):
        words.append("--passphrase")
    profile = described.get("profile")
    return " ".join([f"ARB_PROFILE={shlex.quote(str(profile))}", *words] if profile else words)
