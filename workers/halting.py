"""The one way to halt an instance, whatever hangs: by its guard; else on the halt page and on the disk at once.

In force within a tenth of a second: the guard sets the page before it writes, and where it does not answer in time the
page is latched from here. The disk comes last and is not waited for longer than ``DISK_S``: a guard that runs (again)
finds the mark on the page and writes the file itself.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import Any

from pipeline.model.errors import BadInput
from shm.errors import ShmError
from workers.audit_log import audit, who
from workers.control_socket import GUARD_SOCKET, ControlError, ask
from workers.halt_file import NO_REASON, latch_on_disk, release_on_disk

GUARD_S = 0.1  # a guard that runs answers within milliseconds, except where its disk is slow
DISK_S = 0.3
RELEASE_S = 3.0  # of what is not carried out before the disk has it: whoever asks waits for 5 s


def halt_instance(state_dir: Path, reason: str, *, uid: int | None = None, process: str = "") -> dict[str, Any]:
    """Halt the instance whose state folder this is; a reply as the guard's, with ``warning`` where it was not asked.

    ``process``: the process that decided it; "" = the user ``uid`` (None: ours). Raises BadInput without a reason,
    ControlError where neither the guard nor page nor disk took it.
    """
    if not reason.strip():
        raise BadInput(NO_REASON)
    request: dict[str, Any] = {"op": "halt", "reason": reason}
    if process:
        request["process"] = process
    elif uid is not None:
        request["for_uid"] = uid
    threading.Thread(target=_load_page, name="halt-page").start()  # while the guard is asked
    try:
        return ask(state_dir / GUARD_SOCKET, request, timeout_s=GUARD_S)
    except ControlError as error:
        missing = str(error)
    by = process or who(os.geteuid() if uid is None else uid)
    on_page = _latch_page(state_dir.name, reason)
    on_disk = _latch_disk(state_dir, reason, by)
    audit(state_dir, op="halt", by=by, reason=reason, where="page and disk", page=on_page, disk=on_disk)
    if on_page and on_disk:
        raise ControlError(f"not halted: {missing}; page: {on_page}; disk: {on_disk}")
    if on_page:
        text = "the guard does not answer; the halt is on disk and holds as soon as a guard runs"
    else:
        text = "the guard does not answer; the halt is in force"
        text += f", but not on the disk yet ({on_disk}): the guard writes it" if on_disk else ""
    return {"halted": True, "reason": reason, "warning": text}


def release_without_guard(state_dir: Path, reason: str, *, by: str) -> None:
    """End halt, drain and blocks where no guard answers: it reads the disk as soon as it runs. ``by``: who decided it.
    Raises ControlError, also where the disk hangs: nothing is released later then."""
    from workers.halt_page import forget_unsaved  # imported here: a command that needs no page does without it

    problem, given_up = [f"the disk has not answered in {RELEASE_S} s"], threading.Event()

    def write() -> None:
        try:
            release_on_disk(state_dir, reason, by=by, wanted=lambda: not given_up.is_set())
            problem.clear()
        except OSError as error:
            problem[0] = str(error.strerror)

    thread = threading.Thread(target=write, name="release-on-disk", daemon=True)
    thread.start()
    thread.join(RELEASE_S)
    given_up.set()
    for text in problem:
        raise ControlError(f"not released: {text}; repeat `arb resume --reason R`")
    with contextlib.suppress(ShmError):
        forget_unsaved(state_dir.name)


def _load_page() -> None:
    """What latching the page needs takes as long to load as the guard has for its answer."""
    with contextlib.suppress(ImportError, OSError):
        import workers.halt_page  # noqa: F401  imported here: as above


def _latch_page(instance: str, reason: str) -> str:
    """What went wrong, or ""."""
    try:
        from workers.halt_page import latch_page  # imported here: as above

        latch_page(instance, reason)
    except (ShmError, ImportError, OSError) as error:
        return str(error)
    return ""


def _latch_disk(state_dir: Path, reason: str, by: str) -> str:
    """What went wrong within ``DISK_S``, or "": a device that hangs is left to a thread."""
    problem = [f"it has not answered within {DISK_S} s"]

    def write() -> None:
        try:
            latch_on_disk(state_dir, reason, by=by)
            problem[0] = ""
        except OSError as error:
            problem[0] = str(error.strerror)

    thread = threading.Thread(target=write, name="halt-on-disk", daemon=True)
    thread.start()
    thread.join(DISK_S)
    return problem[0]
