"""``arb``: the entry of the command line. The commands stand in ``app.py``; a halt does not wait for their imports."""

from __future__ import annotations

import contextlib
import os
import sys

from workers.cli.halt_command import halt_at_once
from workers.output import drop_stdout
from workers.stop_signal import take_stop_signal


def _open_streams() -> None:
    """Give a process that was started without stdout or stderr (``>&-``) ones that lead nowhere."""
    for name, mode in (("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  open until this process ends


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code (``arb`` of the installed script exits with it)."""
    _open_streams()
    try:
        code = halt_at_once(sys.argv[1:] if argv is None else argv)
        if code is not None:
            return code
        if argv is None:  # a process of its own: a stop while the imports run is not lost
            take_stop_signal()
        from workers.cli.app import run  # imported here: a third of a second, which a halt must not wait for

        return run(argv)
    finally:
        try:
            sys.stdout.flush()
        except OSError:
            with contextlib.suppress(OSError):
                drop_stdout()


if __name__ == "__main__":
    sys.exit(main())
