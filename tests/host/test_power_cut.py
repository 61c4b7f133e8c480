"""What a power cut finds on the device when an order has left, by the kernel's word: the executor under strace(1)."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.execution.journal import segment_indices, segment_path
from pipeline.execution.journal.guard_journal import whole_journal
from pipeline.execution.records import OrderIntentRecord, OrderSentRecord
from tests.campaigns.outlives.cases import trades_on
from tests.worlds.instance_rig import SHORT_WINDOWS, Rig, is_judged, running, running_pid
from tests.worlds.waiting import until

pytestmark = pytest.mark.host

POWER = {**SHORT_WINDOWS["execution"], "durability": "power", "journal_segment_bytes": 128 * 1024}
CALLS = "rename,fsync,fdatasync,write,writev,sendto,sendmsg"
ROTATIONS, ORDERS = 2, 20
CALL = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(?: resumed>|\()(.*)$")
ORDER = re.compile(r"POST /api/v3/order\?[^ ]*newClientOrderId=([^&\" ]+)")


@contextlib.contextmanager
def traced(pid: int, path: Path) -> Iterator[None]:
    """The calls of every thread of ``pid`` in ``path``, in their order. Skips where the host does not let us."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("needs strace")
    command = [strace, "-f", "-y", "-s", "1000", "-e", f"trace={CALLS}", "-o", str(path), "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        first = tracer.stderr.readline()
        if "attached" not in first:
            tracer.kill()
            pytest.skip(f"this host lets nobody trace: {first.strip()}")
        try:
            yield
        finally:
            tracer.send_signal(signal.SIGINT)


def calls(path: Path) -> Iterator[tuple[str, str, bool]]:
    """(call, its arguments, whether it returned without an error), each where it ended; a send where it began."""
    begun: dict[str, str] = {}
    for line in path.read_text(errors="replace").splitlines():
        match = CALL.match(line)
        if match is None:
            continue
        thread, call, rest = match.groups()
        resumed = "resumed>" in line[: match.start(3)]
        arguments = begun.pop(thread, "") + rest if resumed else rest
        if rest.endswith("<unfinished ...>"):
            begun[thread] = rest
            if call in ("fsync", "fdatasync", "rename"):
                continue
        elif resumed and call not in ("fsync", "fdatasync", "rename"):
            continue  # has been told where it began
        yield call, arguments, " = -1 " not in rest


def segment_of(folder: Path, client_id: str) -> Path:
    """The segment that has the intent of an order: the first one with its id."""
    paths = [segment_path(folder, index) for index in segment_indices(folder)]
    return next(path for path in paths if client_id.encode() in path.read_bytes())


def intents_and_sends(rig: Rig) -> tuple[dict[str, int], dict[str, int]]:
    """Order -> mono ns of its intent, and of its send."""
    intents, sends = dict[str, int](), dict[str, int]()
    for entry in whole_journal(rig.engine.state_dir):
        if isinstance(entry.record, OrderIntentRecord):
            intents[entry.record.client_id] = entry.mono_ns
        elif isinstance(entry.record, OrderSentRecord):
            sends[entry.record.client_id] = entry.record.send_mono_ns
    return intents, sends


def begun_and_sent(rig: Rig, trace: Path) -> tuple[int, list[str]]:
    """(segments begun, orders of the one venue whose bytes can be read) in a trace so far."""
    text = trace.read_text(errors="replace") if trace.exists() else ""
    return len(re.findall(r'rename\("[^"]*/spare\.seg", ', text)), ORDER.findall(text)


def test_no_order_leaves_before_its_intent_and_the_name_of_its_segment_are_on_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment that is not in its folder is lost with the host, whatever of its content is on the device."""
    monkeypatch.setenv("ARB_STATE_DIR", str(tmp_path / "state"))
    trace = tmp_path / "trace"
    with running(execution=POWER) as rig:
        trades_on(rig)
        folder = rig.engine.state_dir / "journal"
        with traced(running_pid(rig, "executor"), trace):
            until(
                lambda: begun_and_sent(rig, trace)[0] >= ROTATIONS and len(begun_and_sent(rig, trace)[1]) >= ORDERS,
                "rotations, and orders between them",
            )
        is_judged(rig)
        begun: set[str] = set()  # segments that were begun under the trace
        named: set[str] = set()  # those whose name is on the device
        synced: set[str] = set()  # those that were synced since the newest order left: what it wanted is no one else's
        shared: set[str] = set()  # that one's own, good for an order as well whose intent is older than its send
        seen: set[str] = set()
        intents, sends = intents_and_sends(rig)
        newest_sent_ns = after_a_rotation = 0
        for call, arguments, went_well in calls(trace):
            if call == "rename" and went_well and str(folder) in arguments:
                begun.add(arguments.split('"')[3])
            elif call == "fsync" and went_well and f"<{folder}>" in arguments:
                named |= begun
            elif call == "fdatasync" and went_well:
                synced.add(arguments.partition("<")[2].partition(">")[0])
            for client_id in ORDER.findall(arguments) if call in ("write", "writev", "sendto", "sendmsg") else ():
                if client_id in seen:  # the rest of one that a socket did not take whole
                    continue
                seen.add(client_id)
                segment = str(segment_of(folder, client_id))
                if intents[client_id] < newest_sent_ns:
                    synced |= shared
                assert segment in synced, f"{client_id}: its intent is not on the device"
                assert segment in named or segment not in begun, f"{client_id}: the name of its segment is not"
                after_a_rotation += segment in begun
                newest_sent_ns, shared, synced = sends.get(client_id, 0), synced, set()
        assert len(seen) >= ORDERS and after_a_rotation
