"""The unit files are accepted by systemd itself, and sandboxed; what an instance adds comes from its configuration."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
import yaml

from pipeline.model.config import EngineConfig
from pipeline.model.config_load import config_from_mapping
from tests.paths import REPO
from workers.base import STOP_GRACE_S
from workers.control_plane.close_before_stop import stop_bound_s
from workers.control_plane.systemd_units import MARK, main, stale_files, unit_files
from workers.guard.orphan import ORPHAN_NS
from workers.stop_signal import STOP_SIGNAL

UNITS = REPO / "systemd"
ANALYZE = shutil.which("systemd-analyze")
#: Exposure times ten that each sandbox must stay under (a bare unit has 96).
EXPOSURE_MAX = {
    "arb@main.service": 14,  # sets its children's CPUs and priorities itself
    "arb-supervisor@main.service": 13,
    "arb-poller@main.service": 13,
    "arb-executor@main.service": 13,
    "arb-feed@main:mexc.service": 13,
    "arb-guard@main.service": 13,
    "arb-monitor@main.service": 13,
    "arb-recorder@main.service": 5,
    "arb-detector@main.service": 5,
}
CONFIG = {
    "engine_name": "main",
    "mode": "sim",
    "exchanges": {
        name: {
            "dialect": "mexc",
            "markets": {"spot": {"rest": "http://127.0.0.1:1", "ws": "ws://127.0.0.1:1", "symbols": ["S"]}},
        }
        for name in ("mexc", "second")
    },
    "processes": {
        "feed": {"cpus": [2]},
        "feed.second": {"cpus": [3, 4]},
        "detector": {"cpus": [1]},
        "recorder": {"nice": 5},
    },
}


def installed(folder: Path) -> Path:
    """The templates and an instance ``main``, with programs that exist on any host."""
    for source in UNITS.rglob("*"):
        if source.is_file() and (source.suffix in (".service", ".target") or source.parent.suffix == ".d"):
            target = folder / source.relative_to(UNITS)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(source.read_text())
    for path, text in unit_files(config_from_mapping(CONFIG), "main", "/etc/arb/main.yaml").items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    for path in list(folder.rglob("*")):
        if path.is_file():
            text = re.sub(r"/opt/arb/.venv/bin/\w+", "/bin/true", path.read_text()).replace("/opt/arb", "/tmp")
            path.write_text(text)
            if "@." in path.name and path.suffix in (".service", ".target"):
                (path.parent / path.name.replace("@.", "@main.")).write_text(text.replace("%i", "main"))
    return folder


@pytest.mark.host
@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
def test_units_are_valid(tmp_path: Path) -> None:
    assert ANALYZE is not None
    folder = installed(tmp_path)
    for name in [*EXPOSURE_MAX, "halt-arb@main.service", "arb@main.target"]:
        unit = folder / name
        if ":" in name:  # `verify` wants a template behind every "@"; systemd itself takes the unit as it is
            unit = unit.rename(folder / "arb-feed-main-mexc.service")
        done = subprocess.run(
            [ANALYZE, "verify", "--recursive-errors=no", "--man=no", str(unit)],
            capture_output=True, text=True, check=False, env={"SYSTEMD_UNIT_PATH": f"{folder}:"},
        )  # fmt: skip
        assert done.returncode == 0 and not done.stderr.strip(), (name, done.stderr)


@pytest.mark.host
@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", EXPOSURE_MAX)
def test_sandboxes_are_tight(name: str, tmp_path: Path) -> None:
    """``security`` reads no drop-ins offline: they are joined to the unit in systemd's order."""
    assert ANALYZE is not None
    folder = installed(tmp_path)
    text = (folder / name).read_text()
    kind = name.split("@", maxsplit=1)[0]
    if kind != "arb":
        drop_ins = [folder / "arb-.service.d", folder / f"{kind}@.service.d", folder / f"{name}.d"]
        found = sorted((path for drop_in in drop_ins for path in drop_in.glob("*.conf")), key=lambda path: path.name)
        text += "".join("\n" + path.read_text() for path in found)
    joined = tmp_path / "joined"
    joined.mkdir()
    unit = joined / name.replace(":", "-")
    unit.write_text(text)
    done = subprocess.run(
        [ANALYZE, "security", "--offline=true", f"--threshold={EXPOSURE_MAX[name]}", str(unit)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-600:]


def test_units_never_hide_processes_or_let_systemd_remove_live_shared_memory() -> None:
    texts = [path.read_text() for path in UNITS.rglob("*") if path.is_file() and path.suffix in (".service", ".conf")]
    settings = {line.split("=")[0] for text in texts for line in text.splitlines() if "=" in line}
    assert "ProtectSystem" in settings
    forbidden = {"DynamicUser", "RemoveIPC", "MemoryDenyWriteExecute", "ProtectProc", "ProcSubset"}
    assert not forbidden & settings


def test_the_one_unit_waits_for_those_whose_supervisor_has_died() -> None:
    """systemd sends ``KillSignal`` to whoever is left, and SIGKILL after ``TimeoutStopSec``."""
    lines = (UNITS / "arb@.service").read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    assert (found["KillMode"], found["KillSignal"]) == ("control-group", STOP_SIGNAL.name), (
        "a second SIGTERM would end them"
    )
    assert "ExecStop" not in found, "not run before READY"
    assert int(found["TimeoutStopSec"]) > ORPHAN_NS / 1e9 + 5
    assert int(found["TimeoutStopSec"]) > stop_bound_s(EngineConfig()), "a stop may have to close and to kill first"
    assert found["WatchdogSignal"] == "SIGTERM" and int(found["TimeoutAbortSec"]) > STOP_GRACE_S


def test_every_unit_starts_a_module_that_exists() -> None:
    texts = [path.read_text() for path in UNITS.glob("*.service")]
    texts += unit_files(config_from_mapping(CONFIG), "main", "/etc/arb/main.yaml").values()
    modules = {module for text in texts for module in re.findall(r"^ExecStart=\S+ -m (\S+)", text, re.MULTILINE)}
    assert {"workers.control_plane", "workers.executor", "workers.feed", "workers.guard"} <= modules
    for module in modules:
        found = importlib.util.find_spec(module)
        assert found is not None, module
        if found.submodule_search_locations is not None:
            assert importlib.util.find_spec(f"{module}.__main__") is not None, module


def test_every_process_has_its_unit_cpus_and_priority() -> None:
    files = unit_files(config_from_mapping(CONFIG), "main", "/etc/arb/main.yaml")
    target = files["arb@main.target.d/10-feeds.conf"]
    assert "Wants=arb-feed@main:mexc.service arb-feed@main:second.service" in target
    assert "CPUAffinity=2\n" in files["arb-feed@main:mexc.service"]
    assert "CPUAffinity=3 4\n" in files["arb-feed@main:second.service"]
    assert "--exchange second --config /etc/arb/main.yaml" in files["arb-feed@main:second.service"]
    assert files["arb-detector@main.service.d/20-cpus.conf"].endswith("[Service]\nCPUAffinity=1\n")
    assert files["arb-recorder@main.service.d/20-cpus.conf"].endswith("[Service]\nNice=5\n")
    assert "arb-guard@main.service.d/20-cpus.conf" not in files
    wanted = re.findall(r"arb-(\w+)@%i", (UNITS / "arb@.target").read_text())
    assert {*wanted} == {"supervisor", "guard", "recorder", "poller", "executor", "detector"}
    assert all((UNITS / f"arb-{process}@.service").exists() for process in wanted)


def test_the_monitors_unit_is_wanted_only_where_it_is_configured_and_halts_nothing() -> None:
    path = "arb@main.target.d/20-monitor.conf"
    assert path not in unit_files(config_from_mapping(CONFIG), "main", "/etc/arb/main.yaml")
    files = unit_files(config_from_mapping({**CONFIG, "monitoring": {}}), "main", "/etc/arb/main.yaml")
    assert files[path].endswith("[Unit]\nWants=arb-monitor@main.service\n")
    unit = (UNITS / "arb-monitor@.service").read_text()
    assert "OnFailure" not in unit and "Before=arb-guard@%i.service" in unit


def with_credentials(folder: Path, mode: str) -> Path:
    """A configuration with the encrypted credentials of one exchange (all roles), and of who is told, beside it."""
    path = folder / "main.yaml"
    real = {"spot": {"rest": "https://h.invalid", "ws": "wss://h.invalid", "symbols": ["S"]}}
    exchanges = {
        name: {"dialect": "mexc", "trade": name != "data", "markets": real} for name in ("mexc", "second", "data")
    }
    path.write_text(yaml.safe_dump({**CONFIG, "mode": mode, "exchanges": exchanges, "monitoring": {}}))
    for name in ("main.mexc", "main.mexc.guard", "main.mexc.read", "main.data", "main.alerts", "other.second"):
        (folder / f"{name}.cred").write_text("sealed")
    return path


def given(out: Path, unit: str) -> list[str]:
    path = out / f"{unit}@main.service.d" / "30-credentials.conf"
    return re.findall(r"^LoadCredentialEncrypted=(\S+?):", path.read_text(), re.MULTILINE) if path.exists() else []


def test_credentials_beside_the_configuration_reach_the_units_that_need_them_and_no_others(tmp_path: Path) -> None:
    path, out = with_credentials(tmp_path, "paper"), tmp_path / "units"
    assert main(["--config", str(path), "--out", str(out)]) == 0
    assert given(out, "arb-executor") == given(out, "arb-supervisor") == ["mexc.json"]
    assert given(out, "arb-guard") == ["mexc.json", "mexc.guard.json"]
    assert given(out, "arb-poller") == ["mexc.json", "mexc.read.json"]
    assert given(out, "arb-monitor") == ["alerts.json"]
    assert given(out, "arb") == ["mexc.json", "mexc.guard.json", "mexc.read.json", "alerts.json"]
    assert {path.parent.name.partition("@")[0] for path in out.rglob("30-credentials.conf")} == {
        "arb", "arb-executor", "arb-supervisor", "arb-guard", "arb-poller", "arb-monitor"
    }  # fmt: skip
    assert (
        f"mexc.json:{tmp_path}/main.mexc.cred\n"
        in (out / "arb-executor@main.service.d" / "30-credentials.conf").read_text()
    )
    (tmp_path / "main.alerts.cred").unlink()
    assert main(["--config", str(path), "--out", str(out)]) == 0
    assert given(out, "arb-monitor") == [] and given(out, "arb-executor") == ["mexc.json"]


def test_live_is_confirmed_by_the_instances_name_and_taken_back_by_its_absence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = with_credentials(tmp_path, "live"), tmp_path / "units"
    arguments = ["--config", str(path), "--out", str(out)]
    assert main([*arguments, "--i-understand-live-trading", "other"]) == 2
    assert not out.exists()
    assert main([*arguments, "--i-understand-live-trading", "main"]) == 0
    assert "main.second.cred: not found beside the configuration" in capsys.readouterr().err
    for unit in ("arb-supervisor", "arb"):
        template = (UNITS / f"{unit}@.service").read_text()
        found = re.findall(r"^ExecStart=(.*)$", template, re.MULTILINE)
        lines = (out / f"{unit}@main.service.d" / "40-live.conf").read_text().splitlines()
        assert lines[1:3] == ["[Service]", "ExecStart="], "the template's command is taken back first"
        own = found[0].replace("/etc/arb/%i.yaml", str(path)).replace("%i", "main").split()
        confirmed = lines[3].removeprefix("ExecStart=").split()
        assert confirmed[-2:] == ["--i-understand-live-trading", "main"] and sorted(confirmed[:-2]) == sorted(own)
    assert main(arguments) == 0
    assert "mode live is refused at the start" in capsys.readouterr().err
    assert not list(out.rglob("40-live.conf"))
    path = with_credentials(tmp_path, "paper")
    assert main([*arguments, "--i-understand-live-trading", "main"]) == 2, "a mode that is not live needs no word"


def test_files_are_written_and_what_is_not_wanted_any_more_goes(tmp_path: Path) -> None:
    path = tmp_path / "main.yaml"
    out = tmp_path / "units"
    path.write_text(yaml.safe_dump(CONFIG))
    assert main(["--config", str(path), "--out", str(out)]) == 0
    assert (out / "arb-feed@main:second.service").read_text().startswith(MARK)
    own = out / "arb-detector@main.service.d" / "99-own.conf"
    own.write_text("[Service]\nNice=1\n")
    fewer = msgspec.to_builtins(CONFIG)
    del fewer["exchanges"]["second"], fewer["processes"]["feed.second"], fewer["processes"]["detector"]
    path.write_text(yaml.safe_dump(fewer))
    assert main(["--config", str(path), "--out", str(out)]) == 0
    assert not (out / "arb-feed@main:second.service").exists()
    assert not (out / "arb-detector@main.service.d" / "20-cpus.conf").exists()
    assert own.exists(), "what an operator wrote stays"
    assert stale_files(out, "main", {str(f.relative_to(out)): "" for f in out.rglob("*") if f.is_file()}) == []
    path.write_text("nonsense: 1\n")
    assert main(["--config", str(path), "--out", str(out)]) == 2
