"""Disks that are really full: those of ``tests/exhausted.py`` are limits of the processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import REPO

pytestmark = pytest.mark.host

STATE_BYTES, SHM_BYTES = 48 << 20, 256 << 20


def in_namespace(mounts: str, module: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """``module`` run where the file systems of ``mounts`` are its own."""
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        pytest.skip("needs root and unshare(1) for file systems of its own")
    probe = subprocess.run([unshare, "-m", "sh", "-c", mounts], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"this host gives no mount namespace: {probe.stderr.strip()}")
    command = f"{mounts} && exec {sys.executable} -m {module} {folder}"
    return subprocess.run([unshare, "-m", "sh", "-c", command], capture_output=True, text=True, check=False, cwd=REPO)


def test_a_full_state_disk_and_full_shared_memory_with_an_open_leg_end_flat(tmp_path: Path) -> None:
    mounts = f"mount -t tmpfs -o size={STATE_BYTES} none {tmp_path} && mount -t tmpfs -o size={SHM_BYTES} none /dev/shm"
    done = in_namespace(mounts, "tests.host.full_file_systems", tmp_path)
    assert done.returncode == 0 and done.stdout.endswith("flat\n"), done.stdout + done.stderr


def test_a_start_without_room_waits_under_systemd_and_begins_once_there_is_room(tmp_path: Path) -> None:
    mounts = f"mount -t tmpfs -o size=4m none {tmp_path} && mount -t tmpfs -o size={SHM_BYTES} none /dev/shm"
    done = in_namespace(mounts, "tests.host.no_room", tmp_path)
    assert done.returncode == 0 and done.stdout.endswith("began\n"), done.stdout + done.stderr
    assert done.stderr.count("waits for room, and then begins by itself") == 1
