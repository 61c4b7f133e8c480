"""The command that starts an instance again: the same mode, the same instance, confirmed where it is live."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec
import pytest

from pipeline.model.config import EngineConfig
from pipeline.model.enums import Mode
from workers.cli import main as cli
from workers.cli.closing import not_running
from workers.control_plane.supervisor import Supervisor
from workers.last_run.start_hint import start_hint
from workers.state_folder import instance_dir
from workers.tradable import InstanceReasons

LIVE = {"state": "stopped", "config": "/etc/arb/x.yaml", "mode": "live"}


def test_every_text_that_names_the_start_names_mode_instance_and_confirmation(
    instance: str, state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = instance_dir(instance, create=True)
    described = {**LIVE, "instance": instance}
    (folder / "run.json").write_bytes(msgspec.json.encode(described))
    (folder / "lock").touch()
    command = (
        f"arb up --config /etc/arb/x.yaml --mode live --instance {instance} --i-understand-live-trading {instance}"
    )
    assert f"`{command}`" in str(not_running(instance))
    reasons = InstanceReasons(instance, folder).answer(described, running=False).reasons
    assert [reason.solve for reason in reasons if "does not run" in reason.what] == [command]
    assert cli.main(["inspect", "queue", "opps", "--instance", instance]) != 0
    assert f"`{command}` starts it" in capsys.readouterr().err


def test_units_are_started_by_systemd() -> None:
    described = {**LIVE, "instance": "main", "units": True}
    assert start_hint(described) == "systemctl start arb@main.target"


def test_paths_profiles_and_passphrases_are_part_of_it() -> None:
    described = {"config": "/home/a b/x.yaml", "mode": "paper", "instance": "p", "profile": "staging"}
    assert start_hint(described) == "ARB_PROFILE=staging arb up --config '/home/a b/x.yaml' --mode paper --instance p"
    assert start_hint({**LIVE, "instance": "l", "passphrase": True}).endswith(
        "--i-understand-live-trading l --passphrase"
    )
    assert start_hint({}) == "arb up"


def test_run_json_names_the_configuration_from_anywhere(
    instance: str, state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARB_PROFILE", "dev")
    instance_dir(instance, create=True)
    (instance_dir(instance) / "keys" / "mexc.json.fernet").touch()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        config = EngineConfig(engine_name=instance, mode=Mode.SIM)
        described = Supervisor(
            instance=instance, config=config, config_path="config.yaml", fork_server=(0, ours), units=False
        ).describe()
    assert described["config"] == str(tmp_path / "config.yaml")
    assert (described["profile"], described["passphrase"]) == ("dev", True)
