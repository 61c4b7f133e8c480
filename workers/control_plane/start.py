"""The start of an instance, up to the event loop: what ``arb up``, systemd and a demo run.

The fork server is forked first, while this process is small: no numpy (its BLAS starts a thread pool, and a fork copies
only the calling thread), no event loop. It loads the kernels while this process reads the configuration and loads the
supervisor.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from pipeline.exchanges.transport.shared_budgets import join
from pipeline.model.config_load import load_config
from pipeline.model.enums import Mode
from pipeline.model.errors import ArbitrageEngineError, ConfigInvalid
from workers.base import die_with_parent, set_undumpable
from workers.control_plane.fork_server import start_fork_server
from workers.control_plane.preflight import (
    check_journal_mode,
    check_mode,
    check_room,
    lock_instance,
    lock_keys,
    open_to_readers,
    room_for_start,
)
from workers.control_plane.started_again import start_again
from workers.exit_codes import EXIT_COULD_NOT_START, EXIT_USAGE
from workers.live_rules import at_stake
from workers.locked_keys import close_keys, open_keys
from workers.output import say
from workers.stop_signal import take_stop_signal

EARLY_MODULES = ("guard", "recorder", "detector")  # their kernels need no dialect, so no configuration
AWAIT_CONFIG_POLL_S = 0.01


def run_instance(
    config_path: str | None,
    *,
    instance: str,
    mode: str,
    live_name: str,
    ask_passphrase: Callable[[], str] | None = None,
    await_config: bool = False,
    units: bool = False,
    on_event: Callable[[dict[str, Any]], None] | None = None,
) -> tuple[int, dict[str, Any]]:
    """A whole instance in the foreground until SIGTERM or SIGINT: its exit code; ``error`` (why it failed if it did)
    and what stays open at the venues.

    ``instance`` and ``mode`` override the configuration where they are not "". ``live_name``: the instance's name,
    which confirms live mode. ``ask_passphrase`` gives what opens locked keys, where there are any. ``await_config``:
    the parent writes the configuration later. ``units``: systemd starts the other processes. ``on_event`` takes what is
    said to operators as objects. Call before any thread or event loop.
    Raises ConfigInvalid, CouldNotStart.
    """
    take_stop_signal()
    if mode:
        os.environ["ARB_MODE"] = mode
    set_undumpable()  # it has keys, and so has every process that is forked from it
    try:
        if not await_config:  # an error in the configuration is reported before anything is started
            early = load_config(config_path)
            check_mode(early, instance or early.instance, live_name=live_name)
            room_for_start(early, instance or early.instance)
            if early.mode is not Mode.PAPER:  # before the fork: all processes inherit them; paper trades without keys
                open_keys(instance or early.instance, ask_passphrase)
        return _run(config_path, instance, live_name, await_config=await_config, units=units, on_event=on_event)
    finally:
        close_keys()


def _run(
    config_path: str | None,
    instance: str,
    live_name: str,
    *,
    await_config: bool,
    units: bool,
    on_event: Callable[[dict[str, Any]], None] | None,
) -> tuple[int, dict[str, Any]]:
    fork_server = start_fork_server()
    if await_config:
        fork_server[1].send(
            msgspec.json.encode({"op": "warm", "modules": EARLY_MODULES, "dialects": [], "last": False})
        )
        _await_file(Path(str(config_path)))
    config = load_config(config_path)
    name = instance or config.instance
    check_mode(config, name, live_name=live_name)
    check_room(config, name)
    open_to_readers(config, name)
    locks = [lock_instance(name)]
    check_journal_mode(config, name)
    locks += lock_keys(config, name)
    if config.mode is Mode.LIVE:
        for line in at_stake(config):
            say(f"LIVE: {line}")
    # Not at the top of the file: it loads numpy, numba and aiohttp, which must come after the fork (see above).
    from workers.control_plane.supervisor import Supervisor

    budgets = join(name, "supervisor")
    try:
        supervisor = Supervisor(
            instance=name,
            config=config,
            config_path=config_path,
            fork_server=fork_server,
            units=units,
            on_event=on_event,
        )
        code = asyncio.run(supervisor.run())
    finally:
        budgets.leave()
        for lock in locks:
            os.close(lock)
    if supervisor.starts_again:
        start_again(fork_server[0])
    return code, supervisor.ended


def _await_file(path: Path) -> None:
    """Wait for a configuration that the parent (a demo) writes once it knows the ports of its venues."""
    while not path.exists():
        time.sleep(AWAIT_CONFIG_POLL_S)


def main(argv: list[str] | None = None) -> int:
    """``python -m workers.control_plane``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m workers.control_plane")
    parser.add_argument("--config", default=None, help="configuration file; without one: defaults and ARB_* variables")
    parser.add_argument("--instance", default="", help="default: engine_name of the configuration")
    parser.add_argument("--mode", default="", choices=["", *(mode.value for mode in Mode)])
    parser.add_argument(
        "--i-understand-live-trading", metavar="NAME", default="", help="the instance's name, needed for live mode"
    )
    parser.add_argument("--units", action="store_true", help="systemd starts the other processes")
    parser.add_argument("--await-config", action="store_true", help="wait until the parent has written --config")
    parser.add_argument("--parent", type=int, default=0, help="end when this parent process ends")
    arguments = parser.parse_args(argv)
    if arguments.parent:
        die_with_parent(signal.SIGTERM, arguments.parent)
    try:
        code, _ = run_instance(
            arguments.config,
            instance=arguments.instance,
            mode=arguments.mode,
            live_name=arguments.i_understand_live_trading,
            await_config=arguments.await_config,
            units=arguments.units,
        )
        return code
    except ConfigInvalid as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    except ArbitrageEngineError as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_COULD_NOT_START
    except OSError as error:  # a folder that cannot be written, a disk that is full
        sys.stderr.write(f"error: {error}; ARB_STATE_DIR chooses where the state is kept\n")
        return EXIT_COULD_NOT_START
