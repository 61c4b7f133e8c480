"""From nothing to a running instance, as a new user types it: the real commands against the simulated venues."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from pipeline.model.config_load import load_config
from tests.command_line import assert_contract
from tests.worlds.instance_rig import arb
from tests.worlds.waiting import until
from workers.cli import main as cli
from workers.control_plane.instances import run_file
from workers.credentials import store_credentials
from workers.demo.simulator import SimulatorProcess, keys_of

pytestmark = pytest.mark.e2e

VENUES = "mexc_spot,gateio_spot,gateio_futures"


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    """The demo's venues; their JSON line stands in ``sim.json`` beside the log."""
    folder = tmp_path_factory.mktemp("venues")
    simulator = SimulatorProcess(seed=1, scenario="demo", log=folder / "simulator.log")
    ready = simulator.wait_ready()
    assert_contract("sim", ready)
    (folder / "sim.json").write_bytes(msgspec.json.encode(ready))
    yield simulator
    simulator.stop()


@pytest.fixture
def urls(sim: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(next(tmp_path_factory.getbasetemp().glob("venues*/sim.json")))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    """(exit code, the object on stdout, what stderr said) of a command in this process."""
    capsys.readouterr()
    code = cli.main([*arguments, "--json"])
    out, err = capsys.readouterr()
    return code, msgspec.json.decode(out, type=dict[str, Any]), err


def init(capsys: pytest.CaptureFixture[str], urls: str, out: Path, *more: str) -> tuple[int, dict[str, Any], str]:
    return run(
        capsys, "init", "--venues", VENUES, "--capital", "500", "--urls", urls, "--out", str(out), "--pairs", "5", *more
    )


def test_pairs_are_what_the_venues_share_with_volume_and_identity(
    urls: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, fields, _ = run(capsys, "pairs", "--venues", VENUES, "--urls", urls)
    assert_contract("pairs", fields)
    assert code == 0
    rows = {row["pair"]: row for row in fields["pairs"]}
    assert rows["BTC/USDT"]["identity"] == "trusted"
    assert rows["BTC/USDT"]["symbols"] == {
        "mexc_spot": "BTCUSDT",
        "gateio_spot": "BTC_USDT",
        "gateio_futures": "BTC_USDT",
    }
    assert rows["BTC/USDT"]["day_volume"] is not None
    assert not rows["NOVA/USDT"]["usable"] and "gives no identity" in rows["NOVA/USDT"]["reason"]


def test_init_writes_what_config_check_accepts_and_says_what_live_lacks(
    urls: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "config.yaml"
    code, fields, _ = init(capsys, urls, out, "--profile", "cautious")
    assert_contract("init", fields)
    assert code == 0 and fields["next"] == f"arb up --config {out} --instance main-paper"
    config = load_config(out)
    assert {venue.name for venue in config.venues} == set(VENUES.split(","))
    assert config.risk_limits.max_daily_loss_usd == 5
    assert "# BTC/USDT: trusted" in out.read_text()
    begin = {name: entry.capital_usd for name, entry in config.paper.items()}
    assert begin == {"mexc_spot": 250, "gateio_spot": 125, "gateio_futures": 125}, "paper has the capital, no more"
    assert all(entry.missed_ppm and entry.late_ppm and entry.latency_p99_ms for entry in config.paper.values())
    thin = [row["what"] for row in fields["ready_for_live"] if "do not last for one entry" in row["what"]]
    assert thin == ["coins to sell do not last for one entry of 15.00 USD: gateio_spot 12.50 USD each of 5"]
    # 15 USD an entry: a whole contract of SOL is 100 and more, so its futures leg is left out, its spot legs are not
    assert (
        "SOL_USDT" not in config.venue("gateio_futures").symbols and "SOL_USDT" in config.venue("gateio_spot").symbols
    )
    assert any(row["pair"] == "SOL/USDT at gateio_futures" for row in fields["skipped"])
    lacks = {row["what"].split(":")[0]: row["needed"] for row in fields["ready_for_live"]}
    assert lacks["no key of mexc"] and lacks["no key of gateio"] and lacks["mode"]
    code, checked, _ = run(capsys, "config", "check", "--config", str(out))
    assert code == 0 and checked["notes"] == []
    before = "; ".join(checked["before_live"])
    assert "exchanges.mexc: found no key" in before and "plain text, refused in live mode" in before
    code, checked, _ = run(capsys, "config", "check", "--online", "--config", str(out))
    rows = {row["name"]: row for row in checked["online"]}
    assert code == 0 and {row["state"] for row in rows.values()} == {"ok", "unknown"}
    assert rows["account of mexc"]["fix"] == "`arb keys add mexc --instance main`"
    assert rows["limits against accounts"]["found"] == "0 of 3 accounts answered"


def test_paper_with_keys_is_compared_with_the_accounts(
    sim: SimulatorProcess, urls: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "config.yaml"
    assert init(capsys, urls, out, "--name", "t-paper_keys")[0] == 0
    keys = keys_of(sim.fields["venues"])
    store_credentials("t-paper_keys", "gateio", keys["gateio"])
    store_credentials("t-paper_keys", "mexc", msgspec.structs.replace(keys["mexc"], api_secret="another-secret"))
    code, checked, _ = run(capsys, "config", "check", "--online", "--config", str(out))
    rows = {row["name"]: row for row in checked["online"]}
    assert code == 1 and rows["mexc_spot key"]["state"] == "fail" and rows["mexc_spot symbols"]["state"] == "ok"
    assert rows["mexc_spot key"]["fix"] == "`arb keys add mexc --instance t-paper_keys --replace`"
    store_credentials("t-paper_keys", "mexc", keys["mexc"])
    out.write_text(out.read_text().replace("max_total_exposure_usd: 150.00", "max_total_exposure_usd: 90000000"))
    code, checked, _ = run(capsys, "config", "check", "--online", "--config", str(out))
    rows = {row["name"]: row for row in checked["online"]}
    assert code == 1 and "more than the accounts hold" in rows["risk_limits.max_total_exposure_usd"]["found"]


def test_init_does_not_replace_a_file_and_refuses_nonsense(
    urls: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "config.yaml"
    out.write_text("mine")
    code, fields, _ = init(capsys, urls, out)
    assert code == 2 and "--force" in fields["error"]
    assert out.read_text() == "mine"
    for more, said in (
        (["--pairs", "BTC/USDT,NOPE/USDT"], "NOPE/USDT: found on fewer than two"),
        (["--pairs", "BTCUSDT"], "wanted a number, or BASE/QUOTE"),
        (["--profile", "wild"], "--profile: found 'wild'"),
        (["--capital", "5"], "--capital: found '5'"),
        (["--venues", "kraken_spot,mexc_spot"], "found 'kraken_spot'"),
        (["--mode", "live"], "wanted paper or sim first"),
    ):
        code, fields, _ = init(capsys, urls, tmp_path / "other.yaml", *more)
        assert code == 2 and said in fields["error"], fields
    assert not (tmp_path / "other.yaml").exists()


def test_init_says_which_venue_does_not_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dead = {
        "venues": {name: {"rest": "http://127.0.0.1:1/api/v3", "ws": "ws://127.0.0.1:1/ws"} for name in ("mexc_spot",)}
    }
    (tmp_path / "dead.json").write_bytes(msgspec.json.encode(dead))
    out = tmp_path / "config.yaml"
    code, fields, _ = run(
        capsys,
        "init",
        "--venues",
        "mexc_spot",
        "--capital",
        "500",
        "--urls",
        str(tmp_path / "dead.json"),
        "--out",
        str(out),
    )
    assert code == 3 and "mexc_spot (http://127.0.0.1:1/api/v3)" in fields["error"]
    assert list(tmp_path.glob("*.yaml")) == []


def test_init_asks_on_a_terminal_until_it_can_read_the_answer(urls: str, tmp_path: Path) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "workers", "init", "--urls", urls, "--out", str(tmp_path / "config.yaml")],
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(slave)
    os.write(master, f"{VENUES}\nmuch\n500\nBTC/USDT\nbold\n".encode())
    out, err = process.communicate(timeout=300)
    os.close(master)
    assert process.returncode == 0, err
    assert "--capital: found 'much'" in err
    assert "next: arb up" in out
    config = load_config(tmp_path / "config.yaml")
    assert config.venue("mexc_spot").symbols == ("BTCUSDT",)
    assert config.risk_limits.max_total_exposure_usd == 400


def test_the_written_configuration_runs(urls: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "config.yaml"
    instance = f"t-init-{os.getpid()}"
    code, _, _ = init(capsys, urls, out, "--name", instance)
    assert code == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "workers", "up", "--config", str(out), "--json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: process.poll() is not None or run_file(instance).get("state") == "ready", "READY")
        assert process.poll() is None, process.communicate()[1]
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert msgspec.json.decode(said.splitlines()[-1])["exit"] == 0


def test_live_wants_the_name_the_keys_and_a_configuration_that_protects(tmp_path: Path) -> None:
    spot = {"rest": "https://localhost/api/v3", "ws": "wss://localhost/ws", "symbols": ["BTC/USDT"]}
    data = {
        "engine_name": "t-live",
        "mode": "live",
        "exchanges": {"mexc": {"dialect": "mexc", "markets": {"spot": spot}}},
        "features": {"enable_risk_checks": False},
        "risk_limits": {"min_profit_margin_bps": -9999, "max_daily_loss_usd": 1e12},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(data))
    keys = tmp_path / "state" / "t-live" / "keys"
    keys.mkdir(parents=True)
    (keys / "mexc.json").write_text('{"api_key": "...", "api_secret": "...", "uid": ""}')
    (keys / "mexc.json").chmod(0o600)
    for flag, named in (([], "nothing"), (["--i-understand-live-trading", "other"], "'other'")):
        done = arb("up", "--config", str(path), *flag, "--json")
        assert done.returncode == 2
        errors = msgspec.json.decode(done.stdout.splitlines()[-1])["errors"]
        for word in (
            f"as its confirmation {named}, wanted the instance's name: add `--i-understand-live-trading t-live`",
            "keys/mexc.json: found a sample text",
            "features.enable_risk_checks: found false, refused in live mode",
            "risk_limits.min_profit_margin_bps: found -9999",
            "risk_limits.max_daily_loss_usd: found 1000000000000",
            "'BTC/USDT', wanted the venue's spelling, as BTCUSDT",
        ):
            assert any(word in error for error in errors), (word, errors)


def test_two_configurations_are_compared_as_they_take_effect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = "risk_limits: {per_asset: {BTC: {max_exposure_usd: 9}}}"
    (tmp_path / "d.yaml").write_text(f"engine_name: x\n{table}\n")
    for name, loss in (("a", 5000), ("b", 7)):
        (tmp_path / f"{name}.yaml").write_text(f"engine_name: x\nrisk_limits: {{max_daily_loss_usd: {loss}}}\n")
    (tmp_path / "c.yaml").write_text("engine_name: x\n")
    paths = {name: str(tmp_path / f"{name}.yaml") for name in "abcd"}
    code, fields, _ = run(capsys, "config", "diff", paths["a"], paths["b"])
    assert code == 1 and fields["changed"] == {"risk_limits.max_daily_loss_usd": {"from": "5000", "to": "7"}}
    code, fields, _ = run(capsys, "config", "diff", paths["a"], paths["c"])
    assert code == 0 and fields["changed"] == {}, "a value that is the default takes the same effect"
    code, fields, _ = run(capsys, "config", "diff", paths["c"], paths["d"])
    assert code == 1 and "risk_limits.per_asset" not in fields["changed"], "an empty table is none"
    assert fields["changed"]["risk_limits.per_asset.BTC.max_exposure_usd"] == {"from": None, "to": "9"}


def fits(schema: dict[str, Any], value: Any, root: dict[str, Any]) -> bool:
    """Whether a value fits a JSON schema, of the keywords that ours uses."""
    if "$ref" in schema:
        return fits(root["$defs"][schema["$ref"].rpartition("/")[2]], value, root)
    if "anyOf" in schema:
        return any(fits(one, value, root) for one in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    kinds = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict}
    wanted = schema.get("type", [])
    names = [wanted] if isinstance(wanted, str) else wanted
    if value is None or not any(isinstance(value, kinds[name]) for name in names if name != "null"):
        return value is None and "null" in names
    if isinstance(value, list):
        return all(fits(schema.get("items", {}), item, root) for item in value)
    if isinstance(value, dict):
        known, more = schema.get("properties", {}), schema.get("additionalProperties", True)
        return all(
            fits(known[key], item, root) if key in known else isinstance(more, dict) and fits(more, item, root)
            for key, item in value.items()
        )
    return True


def test_the_schema_takes_what_init_writes_and_no_unknown_key(
    urls: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "config.yaml"
    assert init(capsys, urls, out)[0] == 0
    code, schema, _ = run(capsys, "config", "schema")
    assert code == 0
    written = yaml.safe_load(out.read_text())
    assert fits(schema, written, schema)
    assert not fits(schema, {**written, "risk_limit": {}}, schema)
    assert not fits(schema, {**written, "risk_limits": {"max_daily_loss_usd": [1]}}, schema)


def add(exchange: str, text: str, *more: str) -> subprocess.CompletedProcess[str]:
    """``arb keys add`` with ``text`` on stdin."""
    return subprocess.run(
        [sys.executable, "-m", "workers", "keys", "add", exchange, *more, "--json"],
        input=text,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_keys_are_added_listed_masked_and_tried(
    sim: SimulatorProcess, urls: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "config.yaml"
    assert init(capsys, urls, out, "--name", "t-keys")[0] == 0
    keys = keys_of(sim.fields["venues"])
    done = add("mexc", msgspec.json.encode(keys["mexc"]).decode(), "--instance", "t-keys")
    assert done.returncode == 0, done.stderr
    done = add(
        "gateio",
        f"open sesame\n{keys['gateio'].api_key}\n{keys['gateio'].api_secret}\n",
        "--instance",
        "t-keys",
        "--encrypt",
    )
    assert done.returncode == 0, done.stderr
    done = add("gateio", "wrong-key-of-a-guard\nwrong-secret\n", "--instance", "t-keys", "--role", "guard")
    assert done.returncode == 0, done.stderr
    code, fields, _ = run(capsys, "keys", "list", "--instance", "t-keys")
    assert code == 0
    rows = {(row["exchange"], row["role"]): row for row in fields["keys"]}
    assert rows["gateio", "trade"]["api_key"] == "locked" and rows["gateio", "trade"]["encrypted"]
    assert rows["gateio", "guard"]["api_key"] == "wron…rd"
    assert {row["mode"] for row in fields["keys"]} == {"0600"}
    for key in keys.values():
        assert key.api_key not in msgspec.json.encode(fields).decode() + done.stdout
    tried = subprocess.run(
        [sys.executable, "-m", "workers", "keys", "test", "--config", str(out), "--passphrase", "--json"],
        input="open sesame\n", capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    checks = {row["name"]: row for row in msgspec.json.decode(tried.stdout)["checks"]}
    assert tried.returncode == 1, "the guard's key is refused"
    assert checks["trade: key of mexc accepted"]["state"] == "ok"
    assert checks["trade: key of gateio accepted"]["state"] == "ok"
    assert checks["guard: key of gateio accepted"]["state"] == "fail"
    for exchange in ("mexc", "gateio"):
        assert checks[f"trade: key of {exchange} withdrawal right"]["state"] == "unknown", "the venue does not tell"
    for key in keys.values():
        assert key.api_secret not in tried.stdout + tried.stderr


def test_with_keys_venues_tell_which_coin_is_which(
    sim: SimulatorProcess, urls: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for exchange, key in keys_of(sim.fields["venues"]).items():
        store_credentials("t-known", exchange, key)
    code, fields, _ = run(capsys, "pairs", "--venues", VENUES, "--urls", urls, "--instance", "t-known")
    assert code == 0
    rows = {row["pair"]: row for row in fields["pairs"]}
    assert rows["BTC/USDT"]["identity"] == "proved"
    assert "differs" in rows["NOVA/USDT"]["reason"] or "no common network" in rows["NOVA/USDT"]["reason"]


def test_the_accounts_are_compared_with_the_limits(
    sim: SimulatorProcess, urls: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "config.yaml"
    assert init(capsys, urls, out, "--name", "t-money", "--mode", "sim")[0] == 0
    for exchange, key in keys_of(sim.fields["venues"]).items():
        store_credentials("t-money", exchange, key)
    code, fields, _ = run(capsys, "config", "check", "--online", "--config", str(out))
    rows = {row["name"]: row for row in fields["online"]}
    assert code == 0 and rows["accounts"]["state"] == "ok"
    text = out.read_text().replace("max_total_exposure_usd: 150.00", "max_total_exposure_usd: 90000000")
    out.write_text(text)
    code, fields, _ = run(capsys, "config", "check", "--online", "--config", str(out))
    rows = {row["name"]: row for row in fields["online"]}
    assert code == 1 and "more than the accounts hold" in rows["risk_limits.max_total_exposure_usd"]["found"]


def test_doctor_asks_the_venues_their_clocks_and_the_keys(
    sim: SimulatorProcess, urls: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "config.yaml"
    assert init(capsys, urls, out, "--name", "t-doctor", "--mode", "sim")[0] == 0
    code, fields, _ = run(capsys, "doctor", "--config", str(out), "--offline")
    assert_contract("doctor", fields)
    rows = {row["name"]: row for row in fields["checks"]}
    assert code == 1 and rows["key of mexc"]["state"] == "fail"
    assert rows["key of mexc"]["fix"] == "`arb keys add mexc --instance t-doctor`"
    for exchange, key in keys_of(sim.fields["venues"]).items():
        store_credentials("t-doctor", exchange, key)
    (tmp_path / "state" / "t-doctor" / "keys" / "gateio.json").chmod(0o644)
    code, fields, _ = run(capsys, "doctor", "--config", str(out))
    rows = {row["name"]: row for row in fields["checks"]}
    assert (
        rows["mexc_spot reachable"]["state"] in ("ok", "warn") and "ms at best" in rows["mexc_spot reachable"]["found"]
    )
    assert rows["key of mexc"]["state"] == "ok"
    assert rows["key of mexc accepted"]["state"] == "ok"
    assert rows["key of mexc withdrawal right"]["state"] == "unknown"
    assert code == 1 and rows["key of gateio"]["state"] == "fail" and "chmod 600" in rows["key of gateio"]["found"]
    assert "clock against gateio_futures" in rows and "spinning jitter" in rows


def test_doctor_without_a_configuration_looks_at_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _, fields, _ = run(capsys, "doctor")
    rows = {row["name"]: row for row in fields["checks"]}
    assert rows["venues and keys"]["state"] == "unknown" and "arb init" in rows["venues and keys"]["fix"]
    assert rows["disk of the state folder"]["state"] in ("ok", "warn", "fail")


def below(pid: int) -> list[int]:
    """The process and every one that it has started, as the kernel knows them."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(found for child in children for found in below(int(child)))]


def shown(pids: list[int], folders: list[Path]) -> bytes:
    """What others may read of processes (arguments, variables), and every file below folders and of shared memory."""
    texts = [f"{pid}".encode() for pid in pids]
    for path in (Path(f"/proc/{pid}/{name}") for pid in pids for name in ("cmdline", "environ")):
        with contextlib.suppress(PermissionError):  # nobody but root may
            texts.append(path.read_bytes())
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        with contextlib.suppress(FileNotFoundError):  # replaced meanwhile, or of an instance of others that ends
            texts.append(path.read_bytes())
    return b"\0".join(texts)


def test_an_instance_with_locked_keys_runs_once_the_passphrase_is_given(
    sim: SimulatorProcess, urls: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "config.yaml"
    instance = f"t-locked-{os.getpid()}"
    assert init(capsys, urls, out, "--name", instance, "--mode", "sim")[0] == 0
    for exchange, key in keys_of(sim.fields["venues"]).items():
        text = f"open sesame\n{key.api_key}\n{key.api_secret}\n{key.uid}\n"
        assert add(exchange, text, "--instance", instance, "--encrypt").returncode == 0
    command = [sys.executable, "-m", "workers", "up", "--config", str(out), "--json"]
    refused = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240, check=False
    )
    assert refused.returncode == 2 and "arb up --passphrase" in refused.stderr
    process = subprocess.Popen(
        [*command, "--passphrase"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdin is not None
        process.stdin.write("open sesame\n")
        process.stdin.flush()
        until(lambda: process.poll() is not None or run_file(instance).get("state") == "ready", "READY")
        assert process.poll() is None, process.communicate()[1]
        begun = run_file(instance)["started_wall_ns"]
        pids = below(process.pid)
        os.kill(pids[1], signal.SIGKILL)  # the fork server: the instance begins anew, and nobody types a passphrase
        until(
            lambda: (
                process.poll() is not None
                or (run_file(instance)["started_wall_ns"] != begun and run_file(instance)["state"] == "ready")
            ),
            "READY in its next life",
        )
        assert process.poll() is None, process.communicate()[1]
        seen = shown(below(process.pid), [tmp_path / "state", Path("/dev/shm")])
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    assert process.returncode == 0
    assert instance.encode() in seen, "the search finds what is there"
    for secret in ("open sesame", *(key.api_secret for key in keys_of(sim.fields["venues"]).values())):
        assert secret.encode() not in seen
