"""Bad input of every kind: a clear sentence on stderr, the right exit code, one JSON object with ``--json``."""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from pipeline.execution.journal import SEGMENT_BYTES_MIN, Journal
from pipeline.execution.records import BootRecord
from tests.command_line import assert_contract
from tests.worlds.instance_rig import arb

pytestmark = pytest.mark.e2e


def free_port() -> int:
    """One below those that the kernel gives away: nobody else takes it between the look and the start."""
    for port in range(20_000 + os.getpid() % 10_000, 32_000):  # another test's process begins elsewhere
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def config(tmp_path: Path, text: str) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


DEAD = """
engine_name: t-dead
mode: paper
exchanges:
  mexc: {dialect: mexc, markets: {spot: {rest: "http://127.0.0.1:1/api/v3", ws: "ws://127.0.0.1:1/ws", symbols: [A]}}}
"""


def test_help_names_every_command_quickly_enough_to_use() -> None:
    done = arb("--help")
    assert done.returncode == 0
    for command in (
        "demo",
        "sim",
        "books",
        "replay",
        "up",
        "status",
        "top",
        "halt",
        "resume",
        "execute",
        "why",
        "report",
    ):
        assert command in done.stdout


def test_unknown_command_and_missing_option_are_usage_errors() -> None:
    assert arb("nonsense").returncode == 2
    assert arb("halt").returncode == 2


def test_unknown_config_keys_are_all_listed(tmp_path: Path) -> None:
    path = config(tmp_path, "engine_name: t-x\nnonsense: 1\nrisk_limits: {max_possition: 3, max_daily_loss_usd: -1}\n")
    done = arb("config", "check", "--config", path, "--json")
    assert done.returncode == 2
    errors = msgspec.json.decode(done.stdout)["errors"]
    assert len(errors) >= 3
    for name in ("nonsense", "risk_limits.max_possition", "risk_limits.max_daily_loss_usd"):
        assert any(name in line for line in errors)
        assert name in done.stderr


def test_config_show_tells_origins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = config(tmp_path, DEAD)
    monkeypatch.setenv("ARB_MAX_DAILY_LOSS_USD", "77")
    done = arb("config", "show", "--config", path, "--json")
    values = msgspec.json.decode(done.stdout)["values"]
    assert values["risk_limits.max_daily_loss_usd"]["value"] == "77"
    assert "ARB_MAX_DAILY_LOSS_USD" in values["risk_limits.max_daily_loss_usd"]["origin"]
    assert values["engine_name"]["origin"].startswith("file")
    assert values["risk_limits.max_open_operations"]["origin"] == "default"


def test_missing_config_file_says_what_to_do(tmp_path: Path) -> None:
    done = arb("up", "--config", str(tmp_path / "none.yaml"))
    assert done.returncode == 2
    assert "cannot be read" in done.stderr


def test_dead_venue_could_not_start(tmp_path: Path) -> None:
    done = arb("up", "--config", config(tmp_path, DEAD))
    assert done.returncode == 3
    assert "mexc_spot" in done.stderr
    assert not list(Path("/dev/shm").glob("arb.t-dead.feed*"))
    for leftover in Path("/dev/shm").glob("arb.t-dead.*"):
        leftover.unlink()


@pytest.mark.parametrize("command", [("config", "check"), ("up",)])
def test_keys_that_are_missing_are_named_with_their_place(tmp_path: Path, own_state: Path, command: list[str]) -> None:
    gateio = """
  gateio: {dialect: gateio, markets: {spot: {rest: "http://127.0.0.1:1/api/v4", ws: "ws://127.0.0.1:1/", symbols: [A]}}}
"""
    path = config(tmp_path, DEAD.replace("mode: paper", "mode: sim").rstrip() + gateio)
    done = arb(*command, "--config", path, "--json")
    assert done.returncode == 2
    errors = msgspec.json.decode(done.stdout)["errors"]
    assert [line.split(":")[0] for line in errors] == ["exchanges.mexc", "exchanges.gateio"]
    keys = own_state / "t-dead" / "keys"
    for name, line in zip(("mexc", "gateio"), errors, strict=True):
        assert str(keys / f"{name}.json") in line and "api_secret" in line and line in done.stderr
    keys.mkdir(parents=True)
    (keys / "mexc.json").write_text('{"api_key": "a"}')
    (keys / "mexc.json").chmod(0o600)
    errors = msgspec.json.decode(arb(*command, "--config", path, "--json").stdout)["errors"]
    assert "api_secret" in errors[0] and "keys/gateio.json" in errors[1], "a damaged key is said with the missing one"


@pytest.mark.parametrize("mode", ["sim", "paper"])
@pytest.mark.parametrize("command", [("config", "check"), ("up",)])
def test_a_configuration_without_exchanges_is_refused(tmp_path: Path, command: list[str], mode: str) -> None:
    path = config(tmp_path, f"engine_name: t-none\nmode: {mode}\n")
    done = arb(*command, "--config", path, "--json")
    assert done.returncode == 2
    assert "exchanges: none" in msgspec.json.decode(done.stdout)["error"]


def test_live_is_refused_without_keys_and_flag(tmp_path: Path) -> None:
    text = DEAD.replace("http://127.0.0.1:1/api/v3", "https://localhost/api/v3").replace(
        "ws://127.0.0.1:1/ws", "wss://localhost/ws"
    )
    done = arb("up", "--config", config(tmp_path, text), "--mode", "live")
    assert done.returncode == 2
    assert "--i-understand-live-trading" in done.stderr
    assert "no key" in done.stderr


def test_a_start_on_the_journal_of_another_mode_is_refused_before_anything_starts(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "state" / "t-dead" / "journal", segment_bytes=SEGMENT_BYTES_MIN)
    journal.append(BootRecord(1, "t-dead", "live", 1, 1), 1, 1)
    journal.close()
    done = arb("up", "--config", config(tmp_path, DEAD), "--json")
    assert done.returncode == 2
    assert "the journal of mode live" in msgspec.json.decode(done.stdout.splitlines()[-1])["error"]
    assert not (tmp_path / "state" / "t-dead" / "run.json").exists()


def test_unknown_instance_and_bad_name() -> None:
    done = arb("status", "--instance", "t-nobody")
    assert done.returncode == 2
    assert "arb up" in done.stderr
    assert arb("status", "--instance", "Not/A/Name").returncode == 2


def test_unknown_scenario_and_kill_target() -> None:
    done = arb("demo", "--kill", "kernel")
    assert (done.returncode, "feed, detector, executor" in done.stderr) == (2, True)
    done = arb("sim", "--scenario", "no_such_market")
    assert done.returncode == 2
    assert "packaged" in done.stderr


def test_missing_and_truncated_captures(tmp_path: Path, captures_dir: Path) -> None:
    done = arb("books", str(tmp_path / "none.gz"), "--json")
    assert done.returncode == 2
    assert "none.gz" in msgspec.json.decode(done.stdout)["error"]
    whole = (captures_dir / "spot_btcusdt_20240808.gz").read_bytes()
    cut = tmp_path / "cut.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    done = arb("books", str(cut))
    assert done.returncode == 2
    assert "cut.gz" in done.stderr
    empty = tmp_path / "empty.gz"
    empty.write_bytes(gzip.compress(b""))
    assert arb("replay", str(empty), "--exact").returncode == 2
    assert arb("replay", str(tmp_path / "none.gz")).returncode == 2
    assert arb("replay", str(captures_dir / "spot_btcusdt_20240808.gz"), "--speed", "fast").returncode == 2


def test_a_gap_that_nothing_heals_is_a_failed_check(tmp_path: Path, captures_dir: Path) -> None:
    lines = gzip.decompress((captures_dir / "spot_btcusdt_20240808.gz").read_bytes()).splitlines(keepends=True)
    depth = [number for number, line in enumerate(lines) if b"depthUpdate" in line]
    holed = tmp_path / "holed.gz"
    holed.write_bytes(gzip.compress(b"".join(lines[: depth[500]] + lines[depth[500] + 1 :]), 1))
    done = arb("books", str(holed), "--json")
    fields = msgspec.json.decode(done.stdout)
    assert_contract("books", fields)
    assert (done.returncode, fields["gaps"], fields["broken"]) == (1, 1, ["binance_spot:BTCUSDT"])
    assert "no later snapshot" in done.stderr
    assert arb("books", str(captures_dir / "spot_btcusdt_20240808.gz")).returncode == 0


@pytest.mark.host
def test_full_shared_memory_file_system(tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare for a small /dev/shm of its own")
    script = 'mount -t tmpfs -o size=64k none /dev/shm && exec "$@"'
    probe = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("mount is not permitted here")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-m", "workers", "up", "--config",
         config(tmp_path, DEAD)],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "no room" in done.stderr


def test_a_key_that_its_exchange_refuses(tmp_path: Path) -> None:
    import yaml

    from pipeline.model.structs import Credentials
    from workers.credentials import store_credentials
    from workers.demo.simulator import SimulatorProcess

    simulator = SimulatorProcess(seed=1, scenario="null_flat", log=tmp_path / "simulator.log")
    try:
        sim = simulator.wait_ready()
        path = config(tmp_path, yaml.safe_dump({**sim["engine_config"], "engine_name": "t-badkey"}))
        for name, row in sim["venues"].items():
            key = Credentials(api_key=row["api_key"], api_secret="canary" * 5, uid=row["uid"])
            store_credentials("t-badkey", name.rpartition("_")[0], key)
        done = arb("up", "--config", path)
    finally:
        simulator.stop()
    assert done.returncode == 2
    assert "keys/gateio.json: refused by gateio_spot" in done.stderr
    assert "canary" not in done.stderr + done.stdout
    assert not list(Path("/dev/shm").glob("arb.t-badkey.*"))


def test_sim_takes_the_ports_of_its_configuration_and_says_what_it_serves(tmp_path: Path, captures_dir: Path) -> None:
    port = free_port()
    path = config(tmp_path, DEAD.replace("127.0.0.1:1/", f"127.0.0.1:{port}/"))
    capture = str(captures_dir / "spot_btcusdt_20240808.gz")
    command = [sys.executable, "-m", "workers", "sim", "--config", path, "--capture", capture]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None
        ready = msgspec.json.decode(first.stdout.readline())
        assert ready["venues"]["mexc_spot"]["rest"] == f"http://127.0.0.1:{port}/api/v3"
        assert {name: row["source"] for name, row in ready["venues"].items()} == {
            "mexc_spot": "synthetic",
            "binance_spot": "recorded",
        }
        second = arb("sim", "--config", path, "--json")
        assert (second.returncode, f":{port} cannot be listened on" in second.stderr) == (3, True)
    finally:
        first.terminate()
        _, said = first.communicate(timeout=240)
    assert first.returncode == 0
    assert "binance_spot: recorded" in said and "mexc_spot: synthetic (demo)" in said
    two = DEAD.replace("ws://127.0.0.1:1/ws", "ws://127.0.0.1:2/ws")
    done = arb("sim", "--config", config(tmp_path, two))
    assert (done.returncode, "ports 1, 2" in done.stderr) == (2, True)


def test_sim_writes_what_an_engine_needs_and_replaces_no_file_of_others(tmp_path: Path, own_state: Path) -> None:
    path = tmp_path / "sim.yaml"
    path.write_text("engine_name: mine\n")
    refused = arb("sim", "--write-config", str(path), "--json")
    assert (refused.returncode, "somebody else" in refused.stderr) == (2, True)
    assert path.read_text() == "engine_name: mine\n"
    path.unlink()
    for _ in range(2):  # the second start replaces what the first has written: other ports, other keys
        command = [sys.executable, "-m", "workers", "sim", "--write-config", str(path)]
        sim = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert sim.stdout is not None
            ready = msgspec.json.decode(sim.stdout.readline())
            checked = arb("config", "check", "--config", str(path))
            assert checked.returncode == 0, checked.stderr
            key = msgspec.json.decode((own_state / "demo" / "keys" / "gateio.json").read_bytes())
            assert key["api_key"] == ready["venues"]["gateio_spot"]["api_key"]
            assert ready["venues"]["gateio_spot"]["rest"] in path.read_text()
        finally:
            sim.terminate()
            sim.communicate(timeout=240)
