"""Lines on stderr: whoever does not take them loses them, and the process goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.paths import REPO

WRITES = """
import sys
from workers.output import LogLines
lines = LogLines(int(sys.argv[1]))
for number in range(int(sys.argv[2])):
    lines.write(f"line {number} " + "x" * 90)
print(lines.lost)
"""


def write(stderr: int, *arguments: int) -> int:
    command = [sys.executable, "-c", WRITES, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, cwd=REPO, check=True, timeout=240)
    return int(done.stdout)


def test_a_reader_that_stands_still_costs_lines_and_holds_nobody() -> None:
    reader, writer = os.pipe()
    lost = write(writer, 0, 5000)
    assert lost > 0
    while_read = os.read(reader, 1 << 20)
    assert while_read.startswith(b"line 0 ") and while_read.endswith(b"x\n")
    assert lost + while_read.count(b"\n") == 5000
    os.close(reader)
    assert write(writer, 0, 3) == 3, "a reader that has gone"
    os.close(writer)


def test_a_log_of_ones_own_is_begun_anew_and_another_file_is_not(tmp_path: Path) -> None:
    for bytes_max in (20_000, 0):
        log = tmp_path / f"{bytes_max}.log"
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        assert write(descriptor, bytes_max, 1000) == 0
        os.close(descriptor)
        assert log.read_bytes().splitlines()[-1].startswith(b"line 999 ")
        assert (log.stat().st_size <= 20_000) == bool(bytes_max)


def test_a_full_device_and_no_stderr_at_all() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    assert write(full, 0, 7) == 7
    os.close(full)
    command = ["sh", "-c", '"$0" "$@" 2>&-', sys.executable, "-c", WRITES, "0", "7"]
    assert subprocess.run(command, stdout=subprocess.PIPE, cwd=REPO, check=True, timeout=240).stdout == b"7\n"
