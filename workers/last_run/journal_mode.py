"""One journal is of one mode: what simulated fills left is not there in a real account, nor the other way round.

Baselines of paper against a real account look like a loss that nothing explains, its hedges would be closed with real
orders; and an instance that goes from live to paper would lose its real hedges.
"""

from __future__ import annotations

import os
from shlex import quote

from pipeline.model.enums import Mode
from workers.state_folder import instance_dir

NAME_CHARS_MAX = 32


def mode_problem(found: str, wanted: Mode, instance: str) -> str:
    """Why an instance whose journal was written in mode ``found`` does not start in ``wanted``; "" where it may.

    ``found``: "" where the journal is empty or does not tell.
    """
    if found in ("", wanted.value):
        return ""
    folder, own = instance_dir(instance), name_of_mode(instance, wanted.value)
    here, kept = quote(str(folder)), quote(str(folder.with_name(_free_name(instance, found))))
    another = (
        f"`--instance {own}` (its keys: `arb keys add EXCHANGE --instance {own}`); or, " if own != instance else ""
    )
    return (
        f"mode: found {wanted}, and in {folder} the journal of mode {found}, whose balances and hedges are those of "
        f"other accounts; wanted an instance for each mode: {another}where `arb hedges --instance {instance}` shows "
        f"nothing that must be closed, give the old one a name of its own: "
        f"`mv -T {here} {kept} && mkdir -m 700 {here} && mv -T {kept}/keys {here}/keys`"
    )


def _free_name(instance: str, mode: str) -> str:
    """A name for what an instance has kept of this mode that no instance has: its keys stay its own."""
    name, number = name_of_mode(instance, mode), 1
    while os.path.lexists(instance_dir(name)):
        number += 1
        name = name_of_mode(instance, f"{mode}-{number}")
    return name


def name_of_mode(instance: str, mode: str) -> str:
    """A name for the instance that runs the same configuration in this mode."""
    base = next((instance.removesuffix(f"-{one}") for one in Mode if instance.endswith(f"-{one}")), instance)
    return f"{base[: NAME_CHARS_MAX - len(mode) - 1]}-{mode}"
