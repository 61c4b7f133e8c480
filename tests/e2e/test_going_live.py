"""``docs/going-live.md`` as its reader types it: its commands in its order, on simulated venues, up to the live start.

The names of its instances are replaced by this test's own, its venues' addresses by those of the simulated ones.
"""

from __future__ import annotations

import re
import secrets
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml

from pipeline.model.config import EngineConfig
from pipeline.model.enums import Mode
from tests.paths import REPO
from tests.worlds.waiting import until
from workers.control_plane.instances import run_file
from workers.control_plane.preflight import check_journal_mode
from workers.credentials import store_credentials
from workers.demo.simulator import SimulatorProcess, keys_of
from workers.state_folder import instance_dir

pytestmark = pytest.mark.e2e

GUIDE = (REPO / "docs" / "going-live.md").read_text()
LIVE = "arb up --mode live"
#: What an answer that is no success is here: a warning of this host, a key whose rights the venue does not tell.
CHECKS = ("doctor", "keys test", "status")


def commands() -> list[str]:
    """Every command of the guide, in its order."""
    return [line.split(" #")[0].strip() for line in GUIDE.splitlines() if line.startswith("    arb ")]


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[SimulatorProcess]:
    simulator = SimulatorProcess(seed=1, scenario="demo", log=tmp_path / "simulator.log")
    (tmp_path / "sim.json").write_bytes(msgspec.json.encode(simulator.wait_ready()))
    yield simulator
    simulator.stop()


def arb(folder: Path, words: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    """A command in the reader's folder, ``text`` on its stdin."""
    return subprocess.run(
        [sys.executable, "-m", "workers", *words],
        cwd=folder, input=text, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


def with_limits_of_the_guide(path: Path, name: str) -> None:
    """The configuration with the sample of section 5 in it, as the guide says: beside the exchanges."""
    (sample,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    written = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**written, **yaml.safe_load(sample), "engine_name": name}))


def only_the_addresses_are_wrong(folder: Path, words: list[str]) -> None:
    """A command that reads the configuration for live names the simulator's plain addresses, and nothing else."""
    done = arb(folder, [*words, "--json"])
    errors = msgspec.json.decode(done.stdout.splitlines()[-1])["errors"]
    assert done.returncode == 2 and errors
    assert all("plain text, refused in live mode" in error for error in errors), errors


def test_the_guides_commands_lead_to_a_live_start_that_only_the_simulators_addresses_stop(
    sim: SimulatorProcess, tmp_path: Path
) -> None:
    name = f"t-{secrets.token_hex(4)}"
    config, keys = tmp_path / "config.yaml", keys_of(sim.fields["venues"])
    typed = [re.sub(r"\bmain\b", name, command) for command in commands()]
    before, live = typed[: (end := next(n for n, one in enumerate(typed) if one.startswith(LIVE)))], typed[end]
    engine = None
    try:
        for command in before:
            words = shlex.split(command)[1:]
            if words[0] == "up":
                engine = subprocess.Popen(
                    [sys.executable, "-m", "workers", *words],
                    cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )  # fmt: skip
                paper = words[words.index("--instance") + 1]
                until(lambda: engine.poll() is not None or run_file(paper).get("state") == "ready", "READY")  # noqa: B023
                assert engine.poll() is None and run_file(paper)["mode"] == "paper"
                continue
            more = ["--urls", "sim.json", "--name", name] if words[0] == "init" else []
            stdin = msgspec.json.encode(keys[words[2]]).decode() if words[:2] == ["keys", "add"] else ""
            if command == "arb config check --online":
                with_limits_of_the_guide(config, name)
                for exchange in keys.keys() - {"mexc"}:  # "arb keys add mexc" stands for each of them
                    store_credentials(name, exchange, keys[exchange])
                only_the_addresses_are_wrong(tmp_path, words)
                continue
            done = arb(tmp_path, [*words, *more], stdin)
            assert done.returncode in ((0, 1) if " ".join(words).startswith(CHECKS) else (0,)), (command, done)
        assert engine is not None and engine.wait(timeout=240) == 0, "the guide stops its paper engine"
    finally:
        if engine is not None and engine.poll() is None:
            engine.send_signal(signal.SIGTERM)
            engine.communicate(timeout=120)
    assert list((instance_dir(paper) / "journal").glob("journal-*.seg")), "paper has written a journal"
    only_the_addresses_are_wrong(tmp_path, shlex.split(live)[1:])
    check_journal_mode(EngineConfig(engine_name=name, mode=Mode.LIVE), name)
