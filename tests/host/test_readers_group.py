"""`arb status` of another user's instance: for members of ``monitoring.group``, and for nobody else."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.model.config_load import config_from_mapping
from pipeline.model.errors import BadInput
from tests.stress.support import all_end_well, children
from tests.worlds.instance_rig import LIVELY, PATIENT, Rig, shown_rig
from workers.control_plane.instances import is_running, resolve
from workers.control_plane.preflight import lock_instance, open_to_readers
from workers.control_socket import ControlError, ask_supervisor
from workers.state_folder import instance_dir
from workers.view.status import read_status

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to act as two users"),
]

OTHER_UID, OTHER_GID = 65533, 65533


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of states that other users may look through (pytest's own is closed to them)."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    monkeypatch.setenv("ARB_STATE_DIR", str(path))
    before = os.umask(0o077)  # as in the units: what is open was opened on purpose
    yield path
    os.umask(before)
    shutil.rmtree(path, ignore_errors=True)


def rig_of(group: str) -> Rig:
    rig = Rig(f"t-{secrets.token_hex(4)}", scenario=LIVELY, guard=PATIENT)
    rig.config["monitoring"] = {"port": 0, "group": group}
    return rig


def as_user(groups: list[int], look: Callable[[], None]) -> Callable[[], None]:
    """``look`` by another user, who is in ``groups`` besides."""

    def run() -> None:
        os.setgroups(groups)
        os.setgid(OTHER_GID)
        os.setuid(OTHER_UID)
        look()

    return run


def test_members_read_the_status_and_nobody_else_reads_anything(root: Path) -> None:
    with shown_rig(rig_of("root")) as rig:
        instance, state = rig.instance, rig.engine.state_dir
        (root / "closed").mkdir(mode=0o700)
        shown = read_status(instance)  # kernels, too: the other users cannot read the cache

        def reads() -> None:
            assert resolve("") == instance
            with pytest.raises(PermissionError):
                (state / "config.yaml").read_bytes()  # it may hold the URL of a target
            reading = read_status(instance)
            assert set(reading["processes"]) == set(shown["processes"]) and reading["mode"] == "sim"
            assert all(row["alive"] for row in reading["processes"].values()) and not reading["halted"]
            for name in ("keys", "journal", "log"):
                with pytest.raises(PermissionError):
                    list((state / name).iterdir())
            for path in state.iterdir():
                assert not os.access(path, os.W_OK), path
            with pytest.raises(ControlError, match="Permission denied"):
                ask_supervisor(instance, {"op": "halt", "reason": "not mine"})

        def refused() -> None:
            with pytest.raises(BadInput, match=r"closed to user 65533, wanted its user 0, root, or a member"):
                read_status(instance)

        with children(as_user([0], reads), as_user([], refused)) as both:
            assert all_end_well(both)
        assert not rig.reading()["halted"]


def test_without_a_group_the_folder_is_its_users(root: Path) -> None:
    with shown_rig(rig_of("")) as rig:
        assert rig.engine.state_dir.stat().st_mode & 0o777 == 0o700


def test_what_an_earlier_run_made_under_another_group_is_handed_to_the_group_of_now(root: Path) -> None:
    """`newgrp`, or `Group=` in the units, may come after a first run."""
    rig = rig_of("root")
    state = instance_dir(rig.instance, create=True)
    made = [state / name for name in ("lock", "halt.json", "config.yaml")]
    for path in made:
        path.write_bytes(b"")
    for path in [state, *made]:
        os.chown(path, -1, OTHER_GID)
    open_to_readers(config_from_mapping(rig.config), rig.instance)
    found = {path.name: (path.stat().st_gid, path.stat().st_mode & 0o777) for path in [state, *made]}
    assert found == {
        state.name: (0, 0o750),
        "lock": (0, 0o640),
        "halt.json": (0, 0o640),
        "config.yaml": (OTHER_GID, 0o600),
    }
    os.chown(state / "lock", -1, OTHER_GID)
    os.close(lock_instance(rig.instance))
    assert (state / "lock").stat().st_gid == 0


def test_an_instance_whose_lock_is_closed_to_the_user_is_not_called_stopped(root: Path) -> None:
    state = instance_dir("x", create=True)
    state.chmod(0o755)
    os.close(lock_instance("x"))
    assert not is_running("x")

    def look() -> None:
        assert is_running("x") and not is_running("y")

    with children(as_user([], look)) as one:
        assert all_end_well(one)


def test_a_group_that_the_instance_does_not_run_as_is_refused_in_words(root: Path) -> None:
    rig = rig_of("nogroup")
    try:
        with pytest.raises(Exception, match=r"monitoring.group: found 'nogroup', but the instance runs as group root"):
            rig.start()
    finally:
        rig.close()
