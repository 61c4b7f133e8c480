"""``networks.json`` in the state folder: how coins travel, as the venues listed it when their instruments were read.

The supervisor writes it, the executor reads it for its transfer proposals; nothing trades by it. It has the coins that
are traded, and is written when something of them has changed: the executor decodes it between two events.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import msgspec

from pipeline.model.networks import CoinNetwork, CoinNetworks
from workers.state_folder import replace_file

FILE_NAME = "networks.json"
_decoder = msgspec.json.Decoder(dict[str, dict[str, tuple[CoinNetwork, ...]]])


class NetworksWriter:
    """The file's one writer."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / FILE_NAME
        self._written = b""

    def write(self, networks: CoinNetworks, coins: Collection[str]) -> None:
        """Replace the file by what ``networks`` say of ``coins``, unless that is what it was written with. Raises
        OSError."""
        shown = {
            venue: {coin: rows[coin] for coin in sorted(coins) if coin in rows} for venue, rows in networks.items()
        }
        content = msgspec.json.encode(shown)
        if content != self._written:
            replace_file(self._path, content)
            self._written = content


class NetworksFile:
    """The file as it was last written; read again when it has changed."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / FILE_NAME
        self._read_at_ns = -1
        self._found: CoinNetworks = {}

    def read(self) -> CoinNetworks:
        """Venue -> coin -> networks; empty where no venue has answered, or the file cannot be read."""
        try:
            changed_ns = self._path.stat().st_mtime_ns
            if changed_ns != self._read_at_ns:
                self._found = _decoder.decode(self._path.read_bytes())
                self._read_at_ns = changed_ns
        except (OSError, msgspec.MsgspecError):
            self._found, self._read_at_ns = {}, -1  # the next look reads it: it is written when something changes
        return self._found
