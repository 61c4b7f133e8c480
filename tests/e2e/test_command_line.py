"""``arb`` as a shell, a script and an impatient person meet it: exit codes, one JSON object, nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from tests.command_line import assert_contract
from tests.worlds.instance_rig import Rig, arb, segments_of
from tests.worlds.waiting import until
from workers.halt_file import read_halt
from workers.view.status import read_status

pytestmark = pytest.mark.e2e

INTERRUPTED = 130


def one_object(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """stdout is one JSON object on one line, and its ``exit`` (where it has one) is the exit code."""
    assert done.stdout.count("\n") == 1, done.stdout
    found = msgspec.json.decode(done.stdout, type=dict[str, Any])
    assert found.get("exit", done.returncode) == done.returncode
    return found


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("demo", "--scenario", "nosuch"), "null_flat"),
        (("demo", "--seconds", "inf"), "--seconds"),
        (("demo", "--kill", "nobody"), "--kill"),
        (("sim", "--scenario", "nosuch"), "null_flat"),
        (("books",), "CAPTURE"),
        (("up", "--config", "/nonexistent/config.yaml"), "cannot be read"),
        (("status", "--instance", "t-nobody"), "arb up"),
        (("halt", "--instance", "t-nobody", "--reason", "x"), "arb up"),
        (("execute", "/nonexistent"), "cannot be read"),
        (("config", "check", "--config", "/nonexistent"), "cannot be read"),
        (("nonsense",), "nonsense"),
    ],
)
def test_bad_usage_is_exit_2_one_object_and_a_sentence(arguments: tuple[str, ...], word: str) -> None:
    done = arb(*arguments, "--json")
    assert done.returncode == 2, done.stderr
    assert word in one_object(done)["error"]
    assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_ten_errors_of_a_configuration_come_at_once(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        """
engine_name: "Not A Name"
mode: fast
nonsense: 1
exchanges:
  x: {dialect: nope, markets: {swap: {rest: "ftp://a", ws: "wss://a", symbols: [A, A]}}}
risk_limits: {max_daily_loss_usd: -1, max_slippage_bps: nan, per_venue: {nowhere: {max_exposure_usd: 0}}}
processes: {feed: {cpus: [-1], nice: 99}, printer: {}}
recording: {log_files: 0}
""",
        encoding="utf-8",
    )
    (tmp_path / ".env").write_text("# a comment\nexport ARB_MAX_TOTAL_EXPOSURE_USD='abc'\nno separator\nARB_NOPE=1\n")
    done = arb("config", "check", "--config", str(path), "--json")
    assert done.returncode == 2
    errors = one_object(done)["errors"]
    for word in (
        "engine_name:", "mode:", "nonsense:", "exchanges.x.dialect", "exchanges.x.markets.swap:", "rest:",
        "listed twice",
        "max_daily_loss_usd", "max_slippage_bps", "per_venue.nowhere", "cpus", "nice", "processes.printer", "log_files",
        "max_total_exposure_usd", ".env:3", "ARB_NOPE",
    ):  # fmt: skip
        assert any(word in error for error in errors), (word, errors)


def test_a_profit_that_no_allowed_entry_reaches_is_said(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    urls = "rest: 'http://127.0.0.1:1', ws: 'ws://127.0.0.1:1'"
    mexc = f"mexc: {{dialect: mexc, markets: {{spot: {{{urls}, symbols: [BTCUSDT]}}}}}}"
    gateio = f"gateio: {{dialect: gateio, markets: {{spot: {{{urls}, symbols: [BTC_USDT]}}}}}}"
    text = f"mode: paper\nexchanges: {{{mexc}, {gateio}}}\n"
    path.write_text(text + "detection: {max_notional_usd: 80}\n")
    checked = one_object(arb("config", "check", "--config", str(path), "--json"))
    assert checked["valid"] and len(checked["notes"]) == 1
    for words in ("min_profit_usd: found 0.50", "80 USD by detection.max_notional_usd", "0.4000 USD", "62.50 bps"):
        assert words in checked["notes"][0]
    plain = arb("config", "check", "--config", str(path)).stdout.splitlines()
    assert [line for line in plain[1:] if not line.startswith("before live: ")] == checked["notes"]
    path.write_text(text + "detection: {max_notional_usd: 100}\n")
    assert one_object(arb("config", "check", "--config", str(path), "--json"))["notes"] == []


def test_dotenv_lines_are_read_as_shells_write_them(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("engine_name: t-x\n")
    (tmp_path / ".env").write_bytes(
        b"\xef\xbb\xbfARB_MAX_DAILY_LOSS_USD=77  # what we can bear\r\n"
        b"export ARB_MAX_POSITION_SIZE_USD=\"88\"\r\nARB_ENGINE_NAME='t-#1'\r\nOTHER_KEY=with=equals\n"
    )
    values = one_object(arb("config", "show", "--config", str(path), "--json"))
    assert values["error"].count("t-#1") == 1, "quotes keep a hash; the name is then refused"
    (tmp_path / ".env").write_bytes((tmp_path / ".env").read_bytes().replace(b"'t-#1'", b"t-y"))
    values = one_object(arb("config", "show", "--config", str(path), "--json"))["values"]
    assert values["risk_limits.max_daily_loss_usd"]["value"] == "77"
    assert values["risk_limits.max_position_size_usd"]["value"] == "88"
    assert values["engine_name"]["value"] == "t-y"
    (tmp_path / ".env").write_bytes(b"ARB_MAX_DAILY_LOSS_USD=\xff\n")
    done = arb("config", "check", "--config", str(path), "--json")
    assert done.returncode == 2 and "UTF-8" in one_object(done)["error"]


def test_a_state_folder_that_cannot_be_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    monkeypatch.setenv("ARB_STATE_DIR", str(in_the_way))
    done = arb("demo", "--seconds", "1", "--json")
    assert done.returncode == 3
    assert "ARB_STATE_DIR" in one_object(done)["error"]
    assert "Traceback" not in done.stderr


def test_no_home_no_stdout_no_reader() -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("HOME", "ARB_STATE_DIR")}
    assert arb("status", "--instance", "t-nobody", env={**environment, "HOME": "/nonexistent"}).returncode == 2
    base = [sys.executable, "-m", "workers"]
    shell = f"{' '.join(base)} config show --config /dev/null --json"
    for wish, code in ((f"{shell} >&-", 0), (f"{shell} 2>&-", 0), (f"{shell} | head -c 1; exit ${{PIPESTATUS[0]}}", 0)):
        done = subprocess.run(["bash", "-c", wish], capture_output=True, text=True, timeout=240, check=False)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), (wish, done.stderr)


def test_a_full_output_device_is_a_sentence(captures_dir: Path, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    capture = str(captures_dir / "spot_btcusdt_20240808.gz")
    for arguments, stdout in (
        (("config", "show", "--config", "/dev/null", "--json"), "/dev/full"),
        (("config", "show", "--config", "/dev/null"), "/dev/full"),
        (("--help",), "/dev/full"),
        (("books", capture, "--out", "/dev/full"), "/dev/null"),
        (("replay", "--exact", "--fees", "zero", capture, capture.replace("spot", "usdm"), "--out", "/dev/full"),
         "/dev/null"),
    ):  # fmt: skip
        with open(stdout, "wb") as sink:
            done = subprocess.run(
                [sys.executable, "-m", "workers", *arguments],
                stdout=sink, stderr=subprocess.PIPE, text=True, timeout=240, check=False,
            )  # fmt: skip
        assert (done.returncode, "No space left" in done.stderr) == (3, True), (arguments, done.stderr)
        assert len(done.stderr.splitlines()) == 1, done.stderr


def interrupt(arguments: list[str], when: Callable[[str], bool]) -> subprocess.CompletedProcess[str]:
    """``arb`` interrupted as soon as ``when``, given what it has said so far (stderr, then stdout), is true."""
    with tempfile.TemporaryDirectory() as folder:
        out, said = Path(folder) / "stdout", Path(folder) / "stderr"
        with out.open("w") as stdout, said.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "workers", *arguments], stdout=stdout, stderr=stderr, restore_signals=True
            )
        try:
            until(lambda: when(said.read_text() + out.read_text()), "the moment to interrupt")
            process.send_signal(signal.SIGINT)
            process.wait(timeout=240)
        finally:
            process.kill()
            process.wait()
        return subprocess.CompletedProcess(arguments, process.returncode, out.read_text(), said.read_text())


def test_ctrl_c_during_the_start_ends_everything(own_state: Path) -> None:
    for _ in range(5):  # again where the start was over before the signal came
        done = interrupt(["demo", "--json"], lambda _: any(own_state.glob("demo-*/run.json")))
        if one_object(done).get("error") == "interrupted":
            break
        for folder in own_state.glob("demo-*"):  # a demo that has a summary keeps its state
            shutil.rmtree(folder)
    assert (done.returncode, one_object(done).get("error")) == (INTERRUPTED, "interrupted")
    assert [path.name for path in own_state.iterdir() if path.name != "key-locks"] == []
    assert not [name for name in os.listdir("/dev/shm") if name.startswith("arb.demo-") and _is_ours(name, done.stderr)]


def test_ctrl_c_ends_a_replay_with_130(own_state: Path, captures_dir: Path) -> None:
    done = interrupt(
        ["replay", str(captures_dir / "spot_btcusdt_20240808.gz"), "--json"], lambda said: "s played" in said
    )
    assert done.returncode == INTERRUPTED, done.stderr
    assert_contract("replay", one_object(done))
    assert one_object(done)["orders"] == 0
    assert "left" not in done.stderr
    assert [path.name for path in own_state.iterdir() if path.name != "key-locks"] == []


def test_instances_that_have_run_are_listed(own_state: Path) -> None:
    done = arb("status", "--json")
    assert (done.returncode, "arb up" in one_object(done)["error"]) == (2, True)
    for number, name in enumerate(("one", "two")):
        (own_state / name).mkdir(parents=True)
        (own_state / name / "lock").write_text("")
        (own_state / name / "run.json").write_text("{}")
        os.utime(own_state / name / "run.json", (1000 + number, 1000 + number))
    done = arb("status", "--json")
    assert (done.returncode, "one, two (newest)" in one_object(done)["error"]) == (2, True)
    assert "'arb'" not in done.stderr


def _is_ours(name: str, text: str) -> bool:
    return name.split(".")[1] in text


def test_paper_up_is_interrupted_in_order_and_refuses_a_twin(running: Rig, tmp_path: Path) -> None:
    """The venues of ``running`` serve a second engine without keys."""
    name = f"{running.instance}-p"
    path = tmp_path / "paper.yaml"
    path.write_text(yaml.safe_dump({**running.config, "mode": "paper", "engine_name": name}))

    def ready_and_refuses_a_twin(said: str) -> bool:
        if '"state":"ready"' not in said:  # it looks from time to time: a state of a moment may pass unseen
            return False
        twin = arb("up", "--config", str(path), "--json")
        assert (twin.returncode, "running already" in one_object(twin)["error"]) == (3, True)
        return True

    done = interrupt(["up", "--config", str(path), "--json"], ready_and_refuses_a_twin)
    assert done.returncode == INTERRUPTED
    *events, last = (msgspec.json.decode(line) for line in done.stdout.splitlines())
    states = [event["state"] for event in events if event["event"] == "state"]
    assert "ready" in states, events  # others too, for a moment: a feed on its way up, a guard that had no CPU
    assert (last["exit"], last["error"]) == (INTERRUPTED, None)
    assert {"open_hedges", "positions", "recoveries"} <= last.keys()
    assert segments_of(name) == []


def states(status: dict[str, Any]) -> set[str]:
    return {row["state"] for row in status["processes"].values()}


def test_what_people_get_wrong_with_a_running_instance(running: Rig, tmp_path: Path) -> None:
    at = ("--instance", running.instance)
    for arguments, word in (
        (("symbols", "add", "mexc_spot", "NOSUCHUSDT"), "does not list"),
        (("symbols", "add", "nowhere", "X"), "not configured"),
        (("symbols", "remove", "mexc_spot", "NOSUCHUSDT"), "not in the catalogue"),
        (("why", "nothing"), "newest"),
        (("report", "--since", "yore"), "--since"),
        (("halt", "--reason", " "), "reason"),
    ):
        done = arb(*arguments, *at, "--json")
        assert (done.returncode, word in one_object(done)["error"]) == (2, True), (arguments, done.stdout)
    assert not read_halt(running.engine.state_dir).halted
    wish = tmp_path / "wish.json"
    pair = {
        "opportunity_type": "SPOT_SPOT", "symbol": "ETH/USDT", "buy_exchange": "gateio_spot",
        "sell_exchange": "mexc_spot", "buy_price": "100", "sell_price": "90000", "max_quantity": "0.01",
    }  # fmt: skip
    wish.write_bytes(msgspec.json.encode(pair))
    done = arb("execute", str(wish), *at, "--json")
    assert_contract("execute", one_object(done))
    assert done.returncode == 1 and one_object(done)["final_state"] in ("refused", "failed")
    wish.write_bytes(msgspec.json.encode({**pair, "symbol": "NO/SUCH"}))
    done = arb("execute", str(wish), *at, "--json")
    assert done.returncode == 2 and "no instrument" in one_object(done)["error"]
    narrow = arb("top", "--once", *at, env={**os.environ, "COLUMNS": "40", "NO_COLOR": "1"})
    assert narrow.returncode in (0, 1)
    assert max(map(len, narrow.stdout.splitlines())) <= 40
    assert "executor" in narrow.stdout and "\x1b" not in narrow.stdout
    os.kill(running.engine.pid, signal.SIGKILL)
    until(lambda: read_status(running.instance)["phase"] == "down", "down")
    until(lambda: states(read_status(running.instance)) <= {"dead", "stopped"}, "its children's end")
    done = arb("status", *at, "--json")
    assert done.returncode == 1
    assert states(one_object(done)) <= {"dead", "stopped"}
    done = arb("symbols", "list", *at, "--json")
    assert (done.returncode, "does not run, so nothing was done" in one_object(done)["error"]) == (3, True)
    assert arb("report", *at).returncode == 0
