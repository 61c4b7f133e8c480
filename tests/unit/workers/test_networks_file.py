"""``networks.json``: one error of the disk is forgotten as soon as the disk answers."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.model.networks import CoinNetwork
from tests.exhausted import no_descriptors
from workers.networks_file import FILE_NAME, NetworksFile, NetworksWriter


def test_a_file_that_could_not_be_read_once_is_read_again_though_nothing_has_changed(tmp_path: Path) -> None:
    known = {"mexc_spot": {"BTC": (CoinNetwork(network="btc", withdraw=True),)}}
    NetworksWriter(tmp_path).write(known, ("BTC",))
    reader, written = NetworksFile(tmp_path), (tmp_path / FILE_NAME).stat()
    assert reader.read() == known
    reader_again = NetworksFile(tmp_path)
    with no_descriptors():
        os.utime(tmp_path / FILE_NAME, ns=(written.st_atime_ns, written.st_mtime_ns))
        assert reader_again.read() == {}
    assert reader_again.read() == known
    os.utime(tmp_path / FILE_NAME, ns=(written.st_atime_ns, written.st_mtime_ns + 1))
    with no_descriptors():
        assert reader.read() == {}
    os.utime(tmp_path / FILE_NAME, ns=(written.st_atime_ns, written.st_mtime_ns))
    assert reader.read() == known
