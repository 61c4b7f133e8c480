"""`arb status` of another user's instance: for members of ``monitoring.group``, and for nobody else."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.model.errors import BadInput
from tests.stress.support import all_end_well, children
from tests.worlds.instance_rig import LIVELY, PATIENT, Rig, shown_rig
from workers.control_plane.instances import resolve
from workers.control_socket import ControlError, ask_supervisor
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


def test_a_group_that_the_instance_does_not_run_as_is_refused_in_words(root: Path) -> None:
    rig = rig_of("nogroup")
    try:
        with pytest.raises(Exception, match=r"monitoring.group: found 'nogroup', but the instance runs as group root"):
            rig.start()
    finally:
        rig.close()
