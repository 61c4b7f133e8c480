"""What a stranger and a machine read first: licence, texts at the root, types, editor, hooks, and what CI runs."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.campaigns.whole import PLANS
from tests.paths import REPO

PROJECT: dict[str, Any] = tomllib.loads((REPO / "pyproject.toml").read_text())
RUN_MINUTES_MAX = 45


def test_the_licence_is_apache_in_the_text_and_in_the_package() -> None:
    said = (REPO / "LICENSE").read_text()
    assert said.split()[:6] == ["Apache", "License", "Version", "2.0,", "January", "2004"]
    assert "END OF TERMS AND CONDITIONS" in said
    assert (PROJECT["project"]["license"], PROJECT["project"]["license-files"]) == ("Apache-2.0", ["LICENSE"])


def test_every_package_of_the_wheel_says_that_it_has_types_and_is_checked_for_them() -> None:
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert packages and [name for name in packages if not (REPO / name / "py.typed").is_file()] == []
    assert PROJECT["tool"]["mypy"]["strict"] is True and set(packages) <= set(PROJECT["tool"]["mypy"]["files"])


def test_security_says_how_to_report_and_which_versions_are_supported() -> None:
    said = (REPO / "SECURITY.md").read_text()
    for wanted in ("private security advisory", "how to reproduce", "working days", "supported versions"):
        assert wanted in said, wanted


def test_contributing_names_every_check_that_ci_runs_and_the_commit_rule() -> None:
    said = (REPO / "CONTRIBUTING.md").read_text()
    for wanted in ("scripts/check", *ci_commands(), "`scripts/subject`", "at most 72 characters", "pre-commit install"):
        assert wanted in said, wanted


def ci_commands() -> list[str]:
    """What ``.ci/run`` starts."""
    lines = (REPO / ".ci" / "run").read_text().splitlines()
    return [line for line in lines if line.startswith("scripts/")]


def test_ci_runs_the_tests_the_slice_of_the_campaign_and_the_host_part_and_stops_at_the_first_that_fails() -> None:
    assert ci_commands() == ["scripts/test", "scripts/campaign --slice", "scripts/test --host"]
    assert "set -eu" in (REPO / ".ci" / "run").read_text().splitlines()
    assert [one for one in ci_commands() if not os.access(REPO / one.split()[0], os.X_OK)] == []


def test_the_workflow_runs_what_ci_runs_as_root_within_a_bound_on_the_oldest_and_the_newest_python() -> None:
    workflow = yaml.safe_load((REPO / ".github" / "workflows" / "ci.yml").read_text())
    assert set(workflow[True]) == {"push", "pull_request"}, "YAML reads `on` as true"
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    assert 0 < job["timeout-minutes"] <= RUN_MINUTES_MAX
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert len(commands) == 1 and commands[0].startswith("sudo ") and commands[0].endswith(" bash .ci/run")
    assert '"PATH=$PATH"' in commands[0], "sudo has a PATH of its own, without the Python that was set up"
    lower, upper = re.findall(r"3\.(\d+)", PROJECT["project"]["requires-python"])
    assert job["strategy"]["matrix"]["python"] == [f"3.{lower}", f"3.{int(upper) - 1}"]


def test_each_night_every_campaign_runs() -> None:
    """What ``.ci/run`` leaves out for its length: each plan that it does not run itself."""
    workflow = yaml.safe_load((REPO / ".github" / "workflows" / "campaign.yml").read_text())
    assert set(workflow[True]) == {"schedule", "workflow_dispatch"}
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    plans = job["strategy"]["matrix"]["plan"]
    assert {plan.removeprefix("--").split()[0] for plan in plans} == PLANS.keys() - {"slice"}
    assert any(plan.startswith("--whole ") for plan in plans), "a slow host has time for every stage"
    (command,) = (step["run"] for step in job["steps"] if "run" in step)
    assert command == "scripts/campaign ${{ matrix.plan }}"


def test_editors_are_told_the_line_length_that_ruff_holds() -> None:
    parser = configparser.ConfigParser()
    parser.read_string("[top]\n" + (REPO / ".editorconfig").read_text())
    assert parser["top"]["root"] == "true"
    rules = dict(parser["*"])
    assert int(rules["max_line_length"]) == PROJECT["tool"]["ruff"]["line-length"]
    assert (rules["charset"], rules["end_of_line"], rules["insert_final_newline"]) == ("utf-8", "lf", "true")


def test_the_hooks_are_the_locked_tools_and_each_has_its_stage() -> None:
    config = yaml.safe_load((REPO / ".pre-commit-config.yaml").read_text())
    hooks = {hook["id"]: hook for repo in config["repos"] for hook in repo["hooks"]}
    assert set(hooks) == {"ruff-check", "ruff-format", "mypy", "subject"}
    stages = {name: hook.get("stages", config["default_stages"]) for name, hook in hooks.items()}
    assert stages.pop("subject") == ["commit-msg"] and list(stages.values()) == [["pre-commit"]] * 3
    assert config["default_install_hook_types"] == ["pre-commit", "commit-msg"]
    locked = (REPO / "requirements-test.lock").read_text()
    for name in stages:
        command = hooks[name]["entry"].split()[0]
        assert command.startswith(".venv/bin/") and f"\n{Path(command).name}==" in locked, command


@pytest.mark.parametrize(
    ("message", "refused"),
    [
        ("a" * 72 + "\n\n" + "b" * 200, False),
        ("a" * 73, True),
        ("ä" * 72, False),  # characters, not bytes
        ("ä" * 73, True),
        ("# a comment of git\n\n" + "a" * 73 + "\n", True),
        ("fixup! squash! " + "a" * 72, False),  # as git commit --fixup has it
        ("amend! " + "a" * 73, True),
        ('Revert "' + "a" * 72 + '"', False),
        ("Merge branch '" + "a" * 72 + "'", False),
    ],
)
def test_a_subject_over_72_characters_is_refused(tmp_path: Path, message: str, refused: bool) -> None:
    path = tmp_path / "COMMIT_EDITMSG"
    path.write_text(message, encoding="utf-8")
    (entry,) = re.findall(r"entry: (scripts/subject)$", (REPO / ".pre-commit-config.yaml").read_text(), re.MULTILINE)
    done = subprocess.run([REPO / entry, path], capture_output=True, text=True, check=False)
    assert done.returncode == refused
    assert ("found 73 characters, wanted at most 72" in done.stderr and str(path) in done.stderr) is refused
