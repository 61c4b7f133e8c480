"""``arb keys``: add, list and test API keys. Secrets never stand in arguments and are never printed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.model.config_load import load_config
from pipeline.model.errors import BadInput
from workers.base import set_undumpable
from workers.cli.options import ConfigPath, Json, config_path
from workers.cli.secret_input import read_key, read_passphrase
from workers.cli.setup_text import checks_text, table
from workers.exit_codes import EXIT_CHECK_FAILED, EXIT_OK
from workers.output import emit

KEY_ROLES = ("trade", "guard", "read")
KeyInstance = Annotated[str, typer.Option("--instance", help="Default: engine_name of the configuration, else main.")]
keys_app = typer.Typer(help="API keys of an instance: add, list (masked), test at the exchange.", no_args_is_help=True)


def _instance(given: str, config: Path | None = None) -> str:
    path = config_path(config)
    return given or (load_config(path).instance if path.exists() else "main")


@keys_app.command("add")
def keys_add(
    exchange: Annotated[str, typer.Argument(metavar="EXCHANGE", help="As the configuration names it.")],
    role: Annotated[
        str, typer.Option("--role", help="trade; guard: its own, to close; read: for the poller.")
    ] = "trade",
    encrypt: Annotated[bool, typer.Option("--encrypt", help="At rest, by a passphrase that arb up asks for.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Write a key anew that is there.")] = False,
    instance: KeyInstance = "",
    json: Json = False,
) -> int:
    """Write a key file of mode 0600. The key is asked for on a terminal, else read from stdin.

    stdin: one JSON object with api_key, api_secret and uid, or a line each; with --encrypt the passphrase is the first
    line. Make keys without the right to withdraw, bound to this host's address.
    """
    set_undumpable()
    from workers.account_clients import KeyRole  # imported here: aiohttp
    from workers.setup.keys import add_key

    if role not in KEY_ROLES:
        raise BadInput(f"--role: found {role!r}, wanted one of {', '.join(KEY_ROLES)}")
    passphrase = read_passphrase(twice=sys.stdin.isatty()) if encrypt else ""
    fields = add_key(_instance(instance), exchange, KeyRole(role), read_key(), passphrase, replace=replace)
    emit(
        fields,
        as_json=json,
        text=lambda row: f"{row['exchange']} {row['role']} {row['api_key']}: {row['file']}; next: {row['next']}",
    )
    return EXIT_OK


@keys_app.command("list")
def keys_list(instance: KeyInstance = "", json: Json = False) -> int:
    """List key files: exchange, role, masked key, mode. Exit code 1: others may read one."""
    set_undumpable()
    from workers.setup.keys import list_keys  # imported here: aiohttp

    name = _instance(instance)
    rows = list_keys(name)
    shown = [(r["exchange"], r["role"], r["api_key"], r["mode"], r["problem"]) for r in rows]
    emit(
        {"keys": rows},
        as_json=json,
        text=lambda _: table(shown) or f"none; `arb keys add EXCHANGE --instance {name}` writes one",
    )
    return EXIT_CHECK_FAILED if any(row["problem"] for row in rows) else EXIT_OK


@keys_app.command("test")
def keys_test(
    exchange: Annotated[str, typer.Argument(metavar="[EXCHANGE]", help="Default: all of the configuration.")] = "",
    config: ConfigPath = None,
    instance: KeyInstance = "",
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Opens locked keys: a terminal, else stdin.")
    ] = False,
    json: Json = False,
) -> int:
    """Ask the exchanges: is each key accepted, may it withdraw, is it bound to addresses. No order is sent.

    What an exchange does not tell is unknown, never ok. Exit code 1: a key is refused, or may withdraw.
    """
    set_undumpable()
    from workers.setup.keys import try_keys  # imported here: aiohttp

    loaded = load_config(config_path(config))
    opened = read_passphrase() if passphrase else ""
    rows = try_keys(loaded, instance or loaded.instance, exchange, opened)
    emit({"checks": rows}, as_json=json, text=checks_text)
    return EXIT_CHECK_FAILED if any(row["state"] == "fail" for row in rows) else EXIT_OK


def register(app: typer.Typer) -> None:
    """Add ``arb keys`` to ``app``."""
    app.add_typer(keys_app, name="keys")
