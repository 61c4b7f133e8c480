"""A start on a file system without room, as systemd begins it: it waits, and goes on once there is room.

Run by ``test_full_file_systems.py`` in a mount namespace of its own: ``python -m tests.host.no_room FOLDER``, where a
file system is mounted that can grow. Prints ``began``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import msgspec

DEAD = {"rest": "http://127.0.0.1:9", "ws": "ws://127.0.0.1:9", "symbols": ["BTCUSDT"]}
CONFIG = {
    "engine_name": "t-no-room",
    "mode": "paper",
    "exchanges": {"mexc": {"dialect": "mexc", "markets": {"spot": DEAD}}},
}


def main() -> int:
    """Exit code 0 where it kept its promises."""
    folder = Path(sys.argv[1])
    (folder / "engine.json").write_bytes(msgspec.json.encode(CONFIG))
    environment = {**os.environ, "ARB_STATE_DIR": str(folder / "state"), "NOTIFY_SOCKET": str(folder / "notify")}
    command = [sys.executable, "-m", "workers.control_plane", "--units", "--config", str(folder / "engine.json")]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(folder / "notify"))
        systemd.settimeout(120.0)
        started = subprocess.Popen(command, env=environment)
        try:
            for _ in range(2):
                assert b"waits for the disk: no room in" in systemd.recv(4096)
            subprocess.run(["mount", "-o", "remount,size=256m", str(folder)], check=True)
            while b"waits for the disk" in (said := systemd.recv(4096)):
                pass
            assert started.poll() is None, f"it goes on: {said!r}"
        finally:
            started.send_signal(signal.SIGURG)  # by which its unit is stopped
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(30.0)
            started.kill()
            started.wait()
    print("began")
    return 0


if __name__ == "__main__":
    sys.exit(main())
