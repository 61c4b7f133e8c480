"""The contract of the command line: every command has its options, and the object of ``--json`` its fields."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from pipeline.virtual.margin_storm import Storm, storm_world
from pipeline.virtual.world import VirtualWorld
from tests.command_line import CONTRACT, OTHER_FIELDS, assert_contract
from tests.paths import REPO
from tests.worlds.hedged_world import stopped
from tests.worlds.waiting import WAIT_S
from workers.cli.app import app
from workers.cli.main import main
from workers.reference.commands import leaves

END_S = WAIT_S  # of a command that must end by itself: a watchdog


@pytest.fixture(scope="module")
def hedged() -> VirtualWorld:
    """A core with an open hedge and a tripped breaker."""
    world = storm_world(Storm(), 1, up=True)
    world.run(2500)
    world.core.context.now = world.now()
    world.core.context.trip("daily_loss", "lost too much")
    world.core.context.now = world.now()
    return world


def commands() -> dict[str, Any]:
    root = typer.main.get_command(app)
    return {words.removeprefix("arb "): command for words, command in leaves(root)}  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CONTRACT)
def test_a_command_has_its_options_and_arguments(name: str) -> None:
    command = commands()[name]
    options = {word for param in command.params for word in param.opts}
    assert {*CONTRACT[name].options.split(), "--json"} <= options
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    assert len(arguments) == CONTRACT[name].arguments


def test_every_command_has_json() -> None:
    assert [name for name, command in commands().items() if all("--json" not in p.opts for p in command.params)] == []


def test_the_fields_of_every_command_are_asked_for_by_a_test() -> None:
    texts = [path.read_text() for path in (REPO / "tests").rglob("test_*.py")]
    wanted = [*(name for name, command in CONTRACT.items() if command.fields), *OTHER_FIELDS]
    assert [name for name in wanted if not any(f'assert_contract("{name}"' in text for text in texts)] == []


def test_a_field_that_is_not_there_is_named() -> None:
    for found, text in (
        ({"checks": [{"name": "a", "state": "ok", "found": "", "want": ""}]}, "checks[].fix"),
        ({"checks": {}}, "checks[] (is no list)"),
        ({}, "checks[]"),
    ):
        with pytest.raises(AssertionError, match="lacks") as said:
            assert_contract("doctor", found)
        assert text in str(said.value)
    assert_contract("doctor", {"checks": []})


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """(exit code, the one object on stdout)."""
    capsys.readouterr()
    code = main([*arguments, "--json"])
    out = capsys.readouterr().out
    assert out.count("\n") == 1, out
    return code, json.loads(out)


def test_what_is_read_after_a_stop_has_its_fields(
    hedged: VirtualWorld, state_dir: Path, instance: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped(hedged, instance)
    at = ("--instance", instance)
    code, found = shown(capsys, "status", *at)
    assert_contract("status", found)
    assert code == 1 and found["reasons"]
    code, once = shown(capsys, "top", "--once", *at)
    assert_contract("top", once)
    assert (code, once["reasons"]) == (1, found["reasons"])
    code, found = shown(capsys, "breakers", *at)
    assert_contract("breakers", found)
    (row,) = found["breakers"]
    assert (code, row["name"], row.keys()) == (1, "daily_loss", {"name", "since", "reason", "solve"})
    assert row["since"].endswith("Z")
    _, found = shown(capsys, "positions", *at)
    assert_contract("positions", found)
    _, found = shown(capsys, "hedges", *at)
    assert_contract("hedges", found)
    assert found["hedges"]
    _, found = shown(capsys, "balance", *at)
    assert_contract("balance", found)
    _, found = shown(capsys, "recoveries", *at)
    assert_contract("recoveries", found)
    code, found = shown(capsys, "halt", "--reason", "a look", *at)
    assert_contract("halt", found)
    assert (code, found["halted"]) == (0, True)
    code, found = shown(capsys, "resume", "--reason", "looked", *at)
    assert_contract("resume", found)
    assert (code, found["halted"], found["adopted"]) == (0, False, [])


def test_the_benches_of_the_checkout_have_their_fields(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--quick", "--json", "symbols"]) == 0
    assert_contract("bench", json.loads(capfd.readouterr().out))


def going_on(*arguments: str) -> subprocess.Popen[bytes]:
    run = ["env", "--default-signal=INT", sys.executable, "-m", "workers", *arguments]  # also where tests run with &
    return subprocess.Popen(run, bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPO, env=os.environ)


def line_of(running: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert running.stdout is not None
    assert select.select([running.stdout], [], [], END_S)[0], "nothing was written"
    found: dict[str, Any] = json.loads(running.stdout.readline())
    return found


@pytest.mark.parametrize("command", [("top",), ("logs", "-f")], ids=" ".join)
def test_what_runs_on_writes_an_object_a_line_until_it_is_interrupted(
    command: tuple[str, ...], hedged: VirtualWorld, state_dir: Path, instance: str
) -> None:
    log = stopped(hedged, instance) / "logs" / "arb.jsonl"
    log.parent.mkdir()
    log.write_text('{"wall": "t", "process": "executor", "level": "info", "text": "hello"}\n' * 2)
    running = going_on(*command, "--json", "--instance", instance)
    try:
        for _ in range(2):
            found = line_of(running)
            if command == ("top",):
                assert_contract("top", found)
            else:
                assert found["text"] == "hello"
        running.send_signal(signal.SIGINT)
        out, said = running.communicate(timeout=END_S)
    finally:
        running.kill()
    assert running.returncode == 130, said
    last = json.loads(out.splitlines()[-1])
    assert (last["error"], last["exit"]) == ("interrupted", 130) and b"interrupted" in said


@pytest.mark.parametrize("command", [("top",), ("logs", "-f")], ids=" ".join)
def test_what_runs_on_ends_when_nobody_reads_it_any_more(
    command: tuple[str, ...], hedged: VirtualWorld, state_dir: Path, instance: str
) -> None:
    log = stopped(hedged, instance) / "logs" / "arb.jsonl"
    log.parent.mkdir()
    log.write_text('{"text": "hello"}\n')
    running = going_on(*command, "--json", "--instance", instance)
    try:
        line_of(running)
        assert running.stdout is not None
        running.stdout.close()
        with log.open("a") as file:
            file.write('{"text": "more"}\n')
        assert running.wait(END_S) == 0
    finally:
        running.kill()
