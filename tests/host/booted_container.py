"""A throw-away container over an overlay of this host's ``/`` in which systemd is process 1 and the engine's units run.

The checkout appears at /opt/arb and this interpreter at /opt/python, both read-only; a script inside drives the units
and leaves what it saw in a file. Needs root, systemd-nspawn and a kernel that mounts overlays.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.paths import REPO

BOOT_TIMEOUT_S = 600
RESULT = "opt/result.json"
MODULE = "tests.host.inside_container"
#: systemd as process 1 leaves control groups behind when its container ends.
LEFT_GROUPS = ("payload", "supervisor")
TARGET = "[Unit]\nWants=systemd-journald.service dbus.service drive.service\nAllowIsolate=yes\n"
ARB = """#!/opt/arb/.venv/bin/python
import sys

sys.path.insert(0, "/opt/arb")
from workers.cli.main import main

sys.exit(main())
"""
DRIVE = f"""[Service]
Type=oneshot
WorkingDirectory=/opt/arb
Environment=ARB_STATE_DIR=/var/lib/arb ARB_CACHE_DIR=/var/cache/arb PYTHONDONTWRITEBYTECODE=1
ExecStart=/opt/arb/.venv/bin/python -m {MODULE} /{RESULT}
ExecStopPost=systemctl poweroff
StandardOutput=file:/opt/drive.log
StandardError=inherit
"""


def missing() -> str:
    """Why no container can be booted here; "" where one can."""
    if os.geteuid() != 0:
        return "needs root to boot a container"
    absent = [name for name in ("systemd-nspawn", "systemctl", "mount") if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


class Container:
    """One boot. ``folder`` must lie on a file system that can be the upper layer of an overlay."""

    def __init__(self, folder: Path) -> None:
        self.root, self._upper = folder / "root", folder / "upper"
        for path in (self.root, self._upper, folder / "work"):
            path.mkdir()
        options = f"lowerdir=/,upperdir={self._upper},workdir={folder / 'work'}"
        done = subprocess.run(
            ["mount", "-t", "overlay", "overlay", "-o", options, str(self.root)], capture_output=True, text=True
        )
        self.refused = done.stderr.strip()  # "" = mounted

    def install(self, cache: Path | None) -> None:
        """Units, a virtual environment on /opt/python, and machine code of ``cache`` if there is some."""
        units = self.root / "etc/systemd/system"
        for wanted in units.glob("*.wants"):
            shutil.rmtree(wanted)
        for path in sorted((REPO / "systemd").iterdir()):
            if path.suffix in (".service", ".target"):
                shutil.copy(path, units / path.name)
            elif path.suffix == ".d":
                shutil.copytree(path, units / path.name)
        shutil.copy(REPO / "systemd/arb.sysusers.conf", self.root / "usr/lib/sysusers.d/arb.conf")
        (units / "drive.service").write_text(DRIVE)
        (units / "mini.target").write_text(TARGET)
        (self.root / "var/log/journal").mkdir(parents=True, exist_ok=True)
        for name in ("opt/arb", "opt/python", "opt/venv/bin", "opt/venv/lib"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        venv = self.root / "opt/venv"
        (venv / "bin/python").symlink_to(f"/opt/python/bin/python{sys.version_info.major}.{sys.version_info.minor}")
        (venv / "bin/arb").write_text(ARB)
        (venv / "bin/arb").chmod(0o755)
        # a shared libpython is looked for where it was built, which a sandbox may hide; the host may have another one
        (self.root / "etc/ld.so.conf.d/00-arb.conf").write_text("/opt/python/lib\n")
        (venv / "pyvenv.cfg").write_text("home = /opt/python/bin\ninclude-system-site-packages = false\n")
        if cache is not None and cache.is_dir():
            shutil.copytree(cache, self.root / "var/cache/arb", dirs_exist_ok=True)

    def boot(self) -> str:
        """Boots, drives, waits for the end; the driver's result (JSON text; "" when it left none)."""
        command = ["systemd-nspawn", "-q", "--register=no", "--keep-unit", "--private-network"]
        command += ["--capability=CAP_IPC_LOCK", "-D", str(self.root), f"--bind-ro={REPO}:/opt/arb"]
        command += [f"--bind-ro={self.root / 'opt/venv'}:/opt/arb/.venv", f"--bind-ro={sys.base_prefix}:/opt/python"]
        command += [f"--bind-ro={Path(sys.prefix) / 'lib'}:/opt/arb/.venv/lib", "--boot", "--"]
        command += ["systemd.unit=mini.target", "systemd.show_status=0"]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=BOOT_TIMEOUT_S, check=False)
        result = self._upper / RESULT
        return result.read_text() if result.is_file() else ""

    def log(self) -> str:
        """What the driver said."""
        path = self._upper / "opt/drive.log"
        return path.read_text(errors="replace") if path.is_file() else ""

    def close(self) -> None:
        if not self.refused:
            subprocess.run(["umount", str(self.root)], check=True)
        for name in LEFT_GROUPS:
            for hierarchy in ("systemd", "unified"):
                left = Path("/sys/fs/cgroup", hierarchy, name)
                for group in [*sorted(left.rglob("*"), reverse=True), left]:
                    if group.is_dir():
                        group.rmdir()
