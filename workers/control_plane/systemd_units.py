"""An instance's systemd units that depend on its configuration: feeds, CPU sets, priorities.

``python -m workers.control_plane.systemd_units --config /etc/arb/main.yaml --out /etc/systemd/system`` writes a unit
for each feed, and drop-ins for other processes, beside the templates of ``systemd/``; without ``--out`` it prints them.
Run again after a change of ``exchanges`` or ``processes``, it also removes files of an earlier run (no others).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.model.config import EngineConfig, ProcessConfig
from pipeline.model.config_load import load_config
from pipeline.model.errors import ConfigInvalid
from workers.exit_codes import EXIT_COULD_NOT_START, EXIT_OK, EXIT_USAGE

MARK = "# Written by python -m workers.control_plane.systemd_units; changes are lost.\n"
PYTHON = "/opt/arb/.venv/bin/python"
TEMPLATES = ("supervisor", "guard", "recorder", "poller", "executor", "detector", "monitor")


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


def unit_files(config: EngineConfig, instance: str, config_path: str) -> dict[str, str]:
    """Path below systemd's folder -> content, for ``instance`` with the configuration file ``config_path``."""
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
    return {path: MARK + text for path, text in files.items()}


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
    arguments = parser.parse_args(argv)
    try:
        config = load_config(arguments.config)
    except ConfigInvalid as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    instance = arguments.instance or config.instance
    files = unit_files(config, instance, str(arguments.config.absolute()))
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
