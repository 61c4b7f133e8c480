"""An instance whose state folder and whose ``/dev/shm`` are small file systems, both filled while a leg stands alone.

Run by ``test_full_file_systems.py`` in a mount namespace of its own: ``python -m tests.host.full_file_systems FOLDER``.
Prints ``flat``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline.model.enums import ProcessState
from shm.liveness import LivenessView
from tests.campaigns.outlives.cases import SMALL, nothing_naked, well_again, whole_again
from tests.worlds.instance_rig import Rig, arb, half_done, holds_a_hedge, is_judged, running, segments_of
from tests.worlds.waiting import until
from workers.halt_file import read_halt

BLOCK = bytes(1 << 16)


def full(descriptor: int) -> bool:
    """Writes until nothing fits."""
    with contextlib.suppress(OSError):
        while os.write(descriptor, BLOCK):
            pass
    return os.fstatvfs(descriptor).f_bavail == 0


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Not a byte is free on the file system of ``folder`` meanwhile."""
    path = folder / "filler"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            until(lambda: full(descriptor), "that nothing is free")  # a file that did not fit gives its pages back
        finally:
            os.close(descriptor)
        yield
    finally:
        path.unlink(missing_ok=True)


def comes_back(rig: Rig, process: str) -> None:
    """SIGKILL, and another one of its name serves. By its page: ``run.json`` is on the full disk."""
    view = LivenessView.attach(rig.instance, process)
    before = view.pid
    os.kill(before, signal.SIGKILL)

    def serves() -> bool:
        view.refresh()
        return view.pid != before and view.alive() and view.state == ProcessState.READY

    until(serves, f"another {process}")


def main() -> int:
    """Exit code 0 where it kept its promises."""
    state = Path(sys.argv[1])
    os.environ["ARB_STATE_DIR"] = str(state / "state")
    small = {**SMALL["execution"], "journal_segment_bytes": 128 * 1024}  # full within seconds
    with running(**{**SMALL, "execution": small}) as rig:
        holds_a_hedge(rig)
        names = segments_of(rig.instance)
        half_done(rig, "gateio_spot")
        with filled(state), filled(Path("/dev/shm")):
            until(
                lambda: rig.reading()["opportunities"]["refused"].get("journal_full", 0) > 0,
                "entries refused for the journal's room",
            )
            whole_again(rig)  # what was half done has ended, and by nobody's command
            until(lambda: arb("flatten", "--instance", rig.instance).returncode == 0, "flat, if not in one answer")
            nothing_naked(rig)
            for process in ("guard", "feed.mexc"):  # they come back: the memory that they have is taken over
                comes_back(rig, process)
            done = arb("halt", "--instance", rig.instance, "--reason", "the disk is full")
            assert done.returncode == 0, done.stderr
            assert segments_of(rig.instance) == names
        until(lambda: read_halt(rig.engine.state_dir).halted, "the halt on the disk that has room again")
        well_again(rig)
        is_judged(rig)
    print("flat")
    return 0


if __name__ == "__main__":
    sys.exit(main())
