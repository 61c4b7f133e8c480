"""``set_aside.json``: what of the balances operators keep from new orders, over restarts."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import msgspec

from workers.state_folder import replace_file

FILE_NAME = "set_aside.json"
UNREADABLE_NAME = "set_aside.unreadable.json"
SetAsides = Mapping[str, tuple[str, str, Decimal]]  # name -> (venue, asset, amount)


def read_set_aside(state_dir: Path) -> tuple[SetAsides, str]:
    """(what is set aside, why the file cannot be read; "" where it can, or where there is none)."""
    path = state_dir / FILE_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, tuple[str, str, Decimal]]), ""
    except FileNotFoundError:
        return {}, ""
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        return {}, f"{path}: {error}"


def write_set_aside(state_dir: Path, rows: SetAsides) -> None:
    """Write the file anew; one that cannot be read is kept beside it (``UNREADABLE_NAME``). Raises OSError."""
    if read_set_aside(state_dir)[1]:
        (state_dir / FILE_NAME).replace(state_dir / UNREADABLE_NAME)
    replace_file(state_dir / FILE_NAME, msgspec.json.encode(rows))
