"""An instance's systemd units that depend on its configuration: feeds, CPU sets, priorities, credentials, live mode.

``python -m workers.control_plane.systemd_units --config /etc/arb/main.yaml --out /etc/systemd/system`` writes a unit
for each feed, and drop-ins for other processes, beside the templates of ``systemd/``; without ``--out`` it prints them.
Encrypted credentials that lie beside the configuration (``/etc/arb/main.<exchange>.cred``, ``.<exchange>.guard.cred``,
``.<exchange>.read.cred``, ``main.alerts.cred``) are given to the units that need them, and to no others. Live mode is
confirmed as on the command line, by ``--i-understand-live-trading NAME``; run without it, the confirmation goes.
Run again after a change of ``exchanges``, ``processes`` or credentials, it also removes files of an earlier run (no
others).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
from pathlib import Path

from pipeline.model.config import EngineConfig, ProcessConfig
from pipeline.model.config_load import load_config
from pipeline.model.enums import Mode
from pipeline.model.errors import ConfigInvalid
from workers.credentials import ALERT_URLS, GUARD_SUFFIX, READ_SUFFIX
from workers.exit_codes import EXIT_COULD_NOT_START, EXIT_OK, EXIT_USAGE

MARK = "# Written by python -m workers.control_plane.systemd_units; changes are lost.\n"
BIN = "/opt/arb/.venv/bin"
PYTHON = f"{BIN}/python"
TEMPLATES = ("supervisor", "guard", "recorder", "poller", "executor", "detector", "monitor")
WHOLE = "arb"  # the one unit that starts every process by itself


def _settings(process: ProcessConfig) -> str:
    lines = []
    if process.cpus:
        lines.append(f"CPUAffinity={' '.join(map(str, process.cpus))}")
    if process.nice:
        lines.append(f"Nice={process.nice}")
    return "".join(f"{line}\n" for line in lines)


def _feed_unit(config: EngineConfig, instance: str, exchange: str, config_path: str) -> str:
    before = " ".join(f"arb-{process}@{instance}.service" for process in ("supervisor", "guard", "recorder"))
    return (
        f"[Unit]\nDescription=Arbitrage engine {instance}: books of {exchange}\nPartOf=arb@{instance}.target\n"
        f"After={before}\nOnFailure=halt-arb@{instance}.service\n\n"
        f"[Service]\nExecStart={PYTHON} -m workers.feed --instance {instance} --exchange {exchange} "
        f"--config {config_path}\n{_settings(config.process(f'feed.{exchange}'))}"
    )


def unit_files(
    config: EngineConfig,
    instance: str,
    config_path: str,
    *,
    credentials: Collection[str] = (),
    live: bool = False,
) -> dict[str, str]:
    """Path below systemd's folder -> content, for ``instance`` with the configuration file ``config_path``.

    ``credentials``: names of the encrypted credentials there are beside it, without instance and ``.cred`` ("mexc",
    "mexc.guard", "alerts"). ``live``: the operator has confirmed live trading of this instance.
    """
    feeds = {exchange: f"arb-feed@{instance}:{exchange}.service" for exchange in config.feeds}
    names = " ".join(feeds.values())
    files = {
        f"arb@{instance}.target.d/10-feeds.conf": f"[Unit]\nWants={names}\n",
        # the executor reconciles on books; at a stop it ends before the feeds
        f"arb-executor@{instance}.service.d/20-feeds.conf": f"[Unit]\nAfter={names}\n",
    }
    if config.monitoring is not None:
        files[f"arb@{instance}.target.d/20-monitor.conf"] = f"[Unit]\nWants=arb-monitor@{instance}.service\n"
    for exchange, unit in feeds.items():
        files[unit] = _feed_unit(config, instance, exchange, config_path)
    for process in TEMPLATES:
        settings = _settings(config.process(process))
        if settings:
            files[f"arb-{process}@{instance}.service.d/20-cpus.conf"] = f"[Service]\n{settings}"
    folder = Path(config_path).parent
    for unit, given in _given(config, credentials).items():
        lines = [f"LoadCredentialEncrypted={name}.json:{folder / instance}.{name}.cred\n" for name in given]
        files[f"{unit}@{instance}.service.d/30-credentials.conf"] = f"[Service]\n{''.join(lines)}"
    if live:
        said = f"--instance {instance} --config {config_path}"
        commands = {
            "arb-supervisor": f"{PYTHON} -m workers.control_plane {said} --units",
            WHOLE: f"{BIN}/arb up --config {config_path} --instance {instance}",
        }
        for unit, command in commands.items():
            # the first, empty line takes back the template's command
            text = f"[Service]\nExecStart=\nExecStart={command} --i-understand-live-trading {instance}\n"
            files[f"{unit}@{instance}.service.d/40-live.conf"] = text
    return {path: MARK + text for path, text in files.items()}


def _given(config: EngineConfig, credentials: Collection[str]) -> dict[str, list[str]]:
    """Unit -> names of the credentials that it is given: those that there are and that its process has a need of."""
    trade = [name for name in config.trading_exchanges if name in credentials]
    guard = [name + GUARD_SUFFIX for name in config.trading_exchanges if name + GUARD_SUFFIX in credentials]
    read = [name + READ_SUFFIX for name in config.trading_exchanges if name + READ_SUFFIX in credentials]
    alerts = [ALERT_URLS] if ALERT_URLS in credentials and config.monitoring is not None else []
    given = {
        "arb-supervisor": trade,  # asks which coin a ticker is, which some venues tell to a key alone
        "arb-executor": trade,
        "arb-poller": trade + read,
        "arb-guard": trade + guard,
        "arb-monitor": alerts,
        WHOLE: trade + guard + read + alerts,
    }
    return {unit: names for unit, names in given.items() if names}


def found_credentials(folder: Path, instance: str) -> set[str]:
    """Names of the encrypted credentials of ``instance`` in the folder of its configuration."""
    prefix, suffix = f"{instance}.", ".cred"
    return {path.name.removeprefix(prefix).removesuffix(suffix) for path in folder.glob(f"{prefix}*{suffix}")}


def _remarks(config: EngineConfig, instance: str, credentials: Collection[str], live: bool) -> list[str]:
    """What an operator should know of keys and mode before the units are started."""
    if config.mode is not Mode.LIVE:
        return []
    lines = [
        f"{instance}.{name}.cred: not found beside the configuration; the key is looked for in the state folder alone"
        for name in config.trading_exchanges
        if name not in credentials
    ]
    if not live:
        lines.append(f"mode live is refused at the start without --i-understand-live-trading {instance} here")
    return lines


def stale_files(folder: Path, instance: str, wanted: dict[str, str]) -> list[Path]:
    """Files of an earlier call for ``instance`` that are not wanted any more."""
    patterns = (f"arb-feed@{instance}:*.service", f"arb*@{instance}.*.d/*.conf")
    found = [path for pattern in patterns for path in folder.glob(pattern)]
    return [
        path
        for path in sorted(found)
        if str(path.relative_to(folder)) not in wanted and path.read_text(encoding="utf-8").startswith(MARK)
    ]


def main(argv: list[str] | None = None) -> int:
    """Write or print the files; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m workers.control_plane.systemd_units")
    parser.add_argument("--config", required=True, type=Path, help="the instance's configuration file")
    parser.add_argument("--instance", default="", help="default: engine_name of the configuration")
    parser.add_argument("--out", type=Path, help="systemd's folder, e.g. /etc/systemd/system")
    parser.add_argument(
        "--i-understand-live-trading", metavar="NAME", default="", help="the instance's name, needed for live mode"
    )
    arguments = parser.parse_args(argv)
    try:
        config = load_config(arguments.config)
    except ConfigInvalid as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    instance = arguments.instance or config.instance
    confirmed = arguments.i_understand_live_trading
    if confirmed and (confirmed != instance or config.mode is not Mode.LIVE):
        sys.stderr.write(
            f"--i-understand-live-trading: found {confirmed!r} for instance {instance!r} in mode {config.mode}, wanted "
            f"{instance!r} and mode live\n"
        )
        return EXIT_USAGE
    path = arguments.config.absolute()
    credentials = found_credentials(path.parent, instance)
    files = unit_files(config, instance, str(path), credentials=credentials, live=bool(confirmed))
    for line in _remarks(config, instance, credentials, bool(confirmed)):
        sys.stderr.write(f"{line}\n")
    if arguments.out is None:
        sys.stdout.write("\n".join(f"# {path}\n{text}" for path, text in files.items()))
        return EXIT_OK
    try:
        for path, text in files.items():
            target = arguments.out / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        for stale in stale_files(arguments.out, instance, files):
            stale.unlink()
            sys.stderr.write(f"removed {stale}\n")
    except OSError as error:
        sys.stderr.write(
            f"{error.filename}: cannot be written ({error.strerror}); run as root, or choose another --out\n"
        )
        return EXIT_COULD_NOT_START
    sys.stderr.write(f"{len(files)} files in {arguments.out}; now: systemctl daemon-reload\n")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
