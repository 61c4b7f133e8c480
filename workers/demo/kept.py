"""The state of the last ``arb demo``: kept until the next one has ended, so that ``arb why`` and ``arb report`` can be
asked of it. What ``--keep`` or a failed check keeps is the operator's to remove, and is never removed here."""

from __future__ import annotations

import shutil
from pathlib import Path

from workers.control_plane.instances import is_running
from workers.state_folder import LAST_DEMO, state_root


def keep_as_last(state_dir: Path) -> None:
    """Mark ``state_dir`` as the last demo's and remove those that were marked before. Best effort: a folder that cannot
    be removed is tried again after the next demo. Raises OSError where it cannot be marked."""
    (state_dir / LAST_DEMO).touch(mode=0o600)
    for marker in state_root().glob(f"*/{LAST_DEMO}"):
        if marker.parent != state_dir and not is_running(marker.parent.name):
            shutil.rmtree(marker.parent, ignore_errors=True)
