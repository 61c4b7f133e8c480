"""Where this checkout and the recorded market data lie."""

from __future__ import annotations

import os
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]


def captures_path() -> Path:
    """Folder of recorded market data: ``ARB_CAPTURES``, else ``shared/captures`` beside the checkout."""
    return Path(os.environ.get("ARB_CAPTURES") or REPO.parent / "shared" / "captures")
