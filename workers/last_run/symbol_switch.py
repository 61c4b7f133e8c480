"""``symbols.json``: instruments that ``arb symbols add`` and ``remove`` have changed, so that no restart undoes that.

The supervisor writes it at each of them and reads it when it begins, whatever has ended the run before. It stands over
``symbols`` of the configuration until an orderly stop of the instance. Under one unit a process only the supervisor
itself is stopped and started, so that it stays there until the opposite command.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from workers.state_folder import replace_file

FILE_NAME = "symbols.json"


class SymbolChanges(msgspec.Struct, kw_only=True):
    """(venue, symbol) that were added to what is configured, and removed from it."""

    added: list[tuple[str, str]] = []
    removed: list[tuple[str, str]] = []


def keep_symbols(state_dir: Path, changes: SymbolChanges) -> None:
    """Keep what was changed; no file where nothing is. Raises OSError."""
    if changes == SymbolChanges():
        forget_symbols(state_dir)
    else:
        replace_file(state_dir / FILE_NAME, msgspec.json.encode(changes))


def forget_symbols(state_dir: Path) -> None:
    """The instruments are as configured again. Raises OSError."""
    (state_dir / FILE_NAME).unlink(missing_ok=True)


def kept_symbols(state_dir: Path, say: Callable[[str, str], None]) -> SymbolChanges:
    """What was changed; nothing where there is no file, or none that can be read (``say`` takes level and text)."""
    try:
        return msgspec.json.decode((state_dir / FILE_NAME).read_bytes(), type=SymbolChanges)
    except FileNotFoundError:
        return SymbolChanges()
    except (OSError, msgspec.DecodeError) as error:
        say("error", f"{FILE_NAME}: {error}; the symbols are as configured")
        return SymbolChanges()
