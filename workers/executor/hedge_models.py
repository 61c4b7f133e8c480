"""Basis models of all pairs, kept in the state folder so that a restart goes on with what was learned."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec

from pipeline.execution.hedge_watch import HedgeWatch, PairState

FILE = "hedge_models.msgpack"
SAVE_EVERY_NS = 60_000_000_000  # a model takes one observation a minute
_decode = msgspec.msgpack.Decoder(dict[str, PairState]).decode


class HedgeModels:
    """The file and the watch that it belongs to."""

    def __init__(self, folder: Path, watch: HedgeWatch) -> None:
        self._path = folder / FILE
        self._watch = watch
        self._saved_mono_ns = 0

    def load(self) -> str:
        """Gives the watch what an earlier run learned; what is wrong with the file, "" when nothing is."""
        try:
            self._watch.restore(_decode(self._path.read_bytes()))
        except FileNotFoundError:
            return ""
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            return f"{self._path.name}: {error}; every pair is learned anew"
        return ""

    def save_if_due(self, loop: asyncio.AbstractEventLoop, mono_ns: int) -> None:
        """Once a minute, off the loop's thread."""
        if mono_ns - self._saved_mono_ns >= SAVE_EVERY_NS:
            self._saved_mono_ns = mono_ns
            loop.run_in_executor(None, self._write, msgspec.msgpack.encode(self._watch.states()))

    def save(self) -> None:
        """At the end of a run."""
        self._write(msgspec.msgpack.encode(self._watch.states()))

    def _write(self, content: bytes) -> None:
        """Replaces the file as a whole. A full or read-only folder costs the models of this run, nothing else."""
        fresh = self._path.with_suffix(".new")
        try:
            fresh.write_bytes(content)
            os.replace(fresh, self._path)
        except OSError:
            fresh.unlink(missing_ok=True)
