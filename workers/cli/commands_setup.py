"""Commands before the first start: init, pairs, doctor, host."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from pipeline.model.config_load import load_config
from pipeline.model.enums import Mode
from pipeline.model.errors import BadInput
from workers.base import set_undumpable
from workers.cli.options import Json, config_path
from workers.cli.setup_text import checks_text, host_text, init_text, pairs_text
from workers.exit_codes import EXIT_CHECK_FAILED, EXIT_OK
from workers.output import emit, say
from workers.setup.limits import Profile
from workers.setup.venue_plan import proposed_venues
from workers.state_folder import state_root

if TYPE_CHECKING:
    from workers.setup.host_checks import HostView
    from workers.setup.host_plan import HostPlan, Setting

Venues = Annotated[str, typer.Option("--venues", metavar="V,V", help="As EXCHANGE_MARKET,EXCHANGE_MARKET.")]
UrlFile = Annotated[
    Path | None,
    typer.Option("--urls", metavar="FILE", help="URLs in place of the venues' own: JSON of arb sim, or a config."),
]
Quote = Annotated[str, typer.Option("--quote", help="Quote coin of the pairs.")]
PAIRS_DEFAULT = "10"
HOST_ROOT = Path("/")
HOST_BEFORE = "host.json"  # in the folder of all instances: what `arb host apply` found


def _ask(question: str, default: str | None, parse: Callable[[str], Any]) -> Any:
    """Ask on the terminal until the answer can be read."""
    while True:
        answer = typer.prompt(question, default=default, err=True)
        try:
            return parse(str(answer))
        except BadInput as error:
            say(f"arb: {error}")


def _profile(text: str) -> Profile:
    try:
        return Profile(text.strip().lower())
    except ValueError:
        raise BadInput(f"--profile: found {text!r}, wanted one of {', '.join(Profile)}") from None


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise BadInput(f"--venues: found none, wanted at least two, as {','.join(proposed_venues()[:2])}")
    return names


def init(
    venues: Venues = "",
    capital: Annotated[str, typer.Option("--capital", metavar="USD", help="All accounts together.")] = "",
    pairs: Annotated[str, typer.Option("--pairs", metavar="N|PAIR,…", help="So many, or BASE/QUOTE,…")] = "",
    profile: Annotated[str, typer.Option("--profile", help="cautious, standard or bold.")] = "",
    mode: Annotated[Mode, typer.Option("--mode", help="What the file says; live comes later.")] = Mode.PAPER,
    name: Annotated[str, typer.Option("--name", help="The instance's name.")] = "main",
    quote: Quote = "USDT",
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where it is written.")] = Path("config.yaml"),
    urls: UrlFile = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that stands there.")] = False,
    json: Json = False,
) -> int:
    """Write a commented configuration: venues, the pairs that they share, limits from the capital.

    What is not given is asked for on a terminal. The venues are asked over public REST; with keys (`arb keys add`) they
    also tell which coin is which, so that more pairs can be proposed.
    """
    set_undumpable()
    from workers.setup.init import InitOptions, parse_capital, parse_pairs, write_config  # imported here: aiohttp
    from workers.setup.venue_plan import known_venues, read_urls

    asks = sys.stdin.isatty() and not json
    if not asks and not (venues and capital):
        raise BadInput("--venues and --capital: found no terminal to ask on, wanted both; see `arb init --help`")
    if mode is Mode.LIVE:
        raise BadInput("--mode: found live, wanted paper or sim first; `arb up --mode live` begins with real money")
    if asks and not venues:
        say(f"venues: {', '.join(known_venues())}")
    options = InitOptions(
        venues=_names(venues) if venues else _ask("Venues", ",".join(proposed_venues()), _names),
        capital_usd=parse_capital(capital) if capital else _ask("Capital, USD of all accounts", None, parse_capital),
        pairs=_given(pairs, PAIRS_DEFAULT, "How many pairs, or BASE/QUOTE,...", asks, parse_pairs),
        profile=_given(profile, Profile.CAUTIOUS.value, "Profile (cautious, standard, bold)", asks, _profile),
        mode=mode,
        name=name,
        quote=quote.upper(),
        urls={} if urls is None else read_urls(urls),
        out=out,
        force=force,
    )
    emit(write_config(options, say), as_json=json, text=init_text)
    return EXIT_OK


def _given(text: str, default: str, question: str, asks: bool, parse: Callable[[str], Any]) -> Any:
    return _ask(question, default, parse) if asks and not text else parse(text or default)


def pairs(
    venues: Venues = "",
    config: Annotated[
        Path | None, typer.Option("--config", help="Its venues, URLs and trusted coins in place of --venues.")
    ] = None,
    count: Annotated[str, typer.Option("--pairs", metavar="N|PAIR,…", help="So many, or BASE/QUOTE,…")] = "30",
    quote: Quote = "USDT",
    name: Annotated[str, typer.Option("--instance", help="Whose keys; default: engine_name, or main.")] = "",
    urls: UrlFile = None,
    json: Json = False,
) -> int:
    """List pairs that at least two venues share, most traded first: are they the same coin, how much is traded.

    identity: proved (both venues name the same contract), trusted (by detection.trusted_coins), same_exchange, or
    doubted (the engine would quarantine it, for the reason shown).
    """
    set_undumpable()
    from workers.setup.init import parse_pairs, propose_pairs  # imported here: aiohttp
    from workers.setup.venue_plan import planned_config, read_urls

    given = {} if urls is None else read_urls(urls)
    if config is None:
        chosen = planned_config(_names(venues or ",".join(proposed_venues())), given, Mode.PAPER)
    else:
        chosen = load_config(config)
    instance = name or ("main" if config is None else chosen.instance)
    wanted = parse_pairs(count or PAIRS_DEFAULT)
    fields = propose_pairs(chosen, instance, quote=quote.upper(), wanted=wanted)
    emit(fields, as_json=json, text=pairs_text)
    return EXIT_OK if any(row["usable"] for row in fields["pairs"]) else EXIT_CHECK_FAILED


def doctor(
    config: Annotated[
        Path | None, typer.Option("--config", help="Default: $ARB_CONFIG, else ./config.yaml where it stands.")
    ] = None,
    instance: Annotated[str, typer.Option("--instance", help="Whose keys; default: engine_name.")] = "",
    offline: Annotated[bool, typer.Option("--offline", help="Ask neither venues nor NTP.")] = False,
    json: Json = False,
) -> int:
    """Check host, clock, venues and keys; each row with the command that mends it. Exit code 1: a row fails.

    unknown: it could not be found out, which is never ok. Nothing is changed.
    """
    set_undumpable()
    from workers.setup.checks import as_fields  # imported here: numba
    from workers.setup.doctor import run_checks

    path = config_path(config)
    loaded = load_config(path) if config is not None or path.exists() else None
    rows = run_checks(loaded, instance or ("" if loaded is None else loaded.instance), network=not offline)
    fields: dict[str, Any] = {"config": "" if loaded is None else str(path), "checks": as_fields(rows)}
    emit(fields, as_json=json, text=checks_text)
    return EXIT_CHECK_FAILED if any(row["state"] == "fail" for row in fields["checks"]) else EXIT_OK


host_app = typer.Typer(
    help="CPUs for processes, and settings of the kernel that go with them: planned, applied, taken back.",
    no_args_is_help=True,
)
HostConfig = Annotated[
    Path | None, typer.Option("--config", help="Whose exchanges; default: $ARB_CONFIG, else ./config.yaml.")
]


def _host() -> HostView:
    from workers.setup.host_checks import HostView  # imported here: numba

    return HostView(root=HOST_ROOT, pid=os.getpid())


def _host_plan(config: Path | None) -> HostPlan:
    from workers.setup.host_plan import plan  # imported here: numba

    path = config_path(config)
    loaded = load_config(path) if config is not None or path.exists() else None
    return plan(_host(), () if loaded is None else loaded.feeds)


def _host_rows(rows: Sequence[Setting]) -> list[dict[str, Any]]:
    return [{**msgspec.to_builtins(row), "state": "ok" if row.holds else "differs"} for row in rows]


@host_app.command("plan")
def host_plan(config: HostConfig = None, json: Json = False) -> int:
    """Show which CPU each process should have, the settings of the kernel, and what its command line lacks. Nothing is
    changed. Exit code 1: a setting differs."""
    wanted = _host_plan(config)
    fields = {**msgspec.to_builtins(wanted), "settings": _host_rows(wanted.settings)}
    emit(fields, as_json=json, text=host_text)
    return EXIT_OK if all(row.holds for row in wanted.settings) else EXIT_CHECK_FAILED


@host_app.command("apply")
def host_apply(config: HostConfig = None, json: Json = False) -> int:
    """Set what `arb host plan` shows as differing, and read each setting back; as root. What was before is kept for
    `arb host revert`. It holds until the next boot; where tuned is installed a profile is written that lasts. Exit code
    1: the kernel did not take a setting."""
    from workers.setup.host_plan import apply  # imported here: numba

    wanted = _host_plan(config)
    rows = apply(_host(), wanted, state_root() / HOST_BEFORE)
    fields = {**msgspec.to_builtins(wanted), "settings": _host_rows(rows)}
    emit(fields, as_json=json, text=host_text)
    return EXIT_OK if all(row.holds for row in rows) else EXIT_CHECK_FAILED


@host_app.command("revert")
def host_revert(json: Json = False) -> int:
    """Write back what the first `arb host apply` of this boot found, and read it; as root."""
    from workers.setup.host_plan import revert  # imported here: numba

    rows = revert(_host(), state_root() / HOST_BEFORE)
    fields = {"processes": {}, "notes": [], "settings": _host_rows(rows), "kernel": [], "tuned": ""}
    emit(fields, as_json=json, text=host_text)
    return EXIT_OK if all(row.holds for row in rows) else EXIT_CHECK_FAILED


def register(app: typer.Typer) -> None:
    """Add this file's commands to ``app``."""
    for command in (init, pairs, doctor):
        app.command(name=command.__name__)(command)
    app.add_typer(host_app, name="host")
