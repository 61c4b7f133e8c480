"""Two processes on a model of x86 memory: every atomic operation is a step, and a seed chooses whose step is next.

Used under ``NUMBA_DISABLE_JIT``, where the kernels are plain Python: their atomics are replaced by the methods of
:class:`Machine`. Each process is a thread that waits for its turn before each step. Stores go through a FIFO store
buffer per process (total store order): a process sees its own at once, the other sees them when they drain, which
the scheduler does at random; ``fence_seq_cst`` waits for the drain. Line copies are word by word, in random order.
What this cannot show: the reorderings of machines weaker than x86.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from tests.naive.shm import wrap64

Words = Any
STEPS_MAX = 200_000  # a schedule that never ends is a bug of the kernel (an unbounded wait), not of the schedule
# how many steps a process gets in a row: some runs are fine-grained, in some one side is far faster
BURSTS = ((1,), (1, 2, 3), (1, 10, 40), (1, 40, 300))


class Killed(BaseException):
    """Raised inside a process at the step where it is killed."""


class _Process:
    def __init__(self, body: Callable[[], None], kill_after: int | None) -> None:
        self.body = body
        self.turn = threading.Semaphore(0)
        self.buffer: list[tuple[Words, int, int]] = []
        self.steps = 0
        self.kill_after = kill_after
        self.done = False
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.machine: Machine
        self.bursts: tuple[int, ...] = (1,)

    def _run(self) -> None:
        self.turn.acquire()
        try:
            self.body()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001  (handed to the test, which raises it)
            self.error = error
        self.done = True
        self.machine.back.release()


class Machine:
    """Runs bodies under the schedule of ``seed``; ``kill_after[k]`` ends process k at that step."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.back = threading.Semaphore(0)
        self.processes: list[_Process] = []
        self.current: _Process | None = None
        self.drain_chance = 1.0

    def run(self, *bodies: Callable[[], None], kill_after: dict[int, int] | None = None) -> None:
        """All bodies to their ends (or deaths), then every store buffer drained; raises the first error."""
        self.processes = [_Process(body, (kill_after or {}).get(k)) for k, body in enumerate(bodies)]
        self.drain_chance = self.random.choice((0.02, 0.2, 0.7))
        for process in self.processes:
            process.machine = self
            process.bursts = self.random.choice(BURSTS)
            process.thread.start()
        steps = 0
        while any(not p.done for p in self.processes):
            runnable = [p for p in self.processes if not p.done]
            process = self.random.choice(runnable)
            for _ in range(self.random.choice(process.bursts)):
                steps += 1
                if process.done or steps > STEPS_MAX:
                    break
                self.current = process
                process.turn.release()
                self.back.acquire()
                self._drain_some()
            assert steps <= STEPS_MAX, "no end in sight"
        self.current = None
        for process in self.processes:
            process.thread.join()
            self._drain(process, len(process.buffer))  # what a killed process had stored still becomes visible
            if process.error is not None:
                raise process.error

    def _drain(self, process: _Process, count: int) -> None:
        for words, i, value in process.buffer[:count]:
            words[i] = value
        del process.buffer[:count]

    def _drain_some(self) -> None:
        for process in self.processes:
            if process.buffer and self.random.random() < self.drain_chance:
                self._drain(process, self.random.randint(1, len(process.buffer)))

    def _step(self) -> _Process | None:
        process = self.current
        if process is None or threading.current_thread() is not process.thread:
            return None  # outside of the machine: set-up and checks of the test itself
        self.back.release()
        process.turn.acquire()
        process.steps += 1
        if process.kill_after is not None and process.steps > process.kill_after:
            raise Killed
        return process

    def load(self, words: Words, i: int) -> int:
        process = self._step()
        if process is not None:
            for at, index, value in reversed(process.buffer):
                if index == i and at is words:
                    return value
        return int(words[i])

    def store(self, words: Words, i: int, value: int) -> None:
        process = self._step()
        if process is None:
            words[i] = wrap64(int(value))
        else:
            process.buffer.append((words, int(i), wrap64(int(value))))

    def fence_seq_cst(self) -> None:
        process = self._step()
        if process is not None:
            self._drain(process, len(process.buffer))

    def copy_lines(self, src: Words, src_i: int, dst: Words, dst_i: int, lines: int) -> None:
        order = list(range(lines * 8))
        self.random.shuffle(order)
        for k in order:
            value = self.load(src, src_i + k) if self._shared(src) else int(src[src_i + k])
            if self._shared(dst):
                self.store(dst, dst_i + k, value)
            else:
                dst[dst_i + k] = value

    @staticmethod
    def _shared(words: Words) -> bool:
        return isinstance(words, SharedWords)

    def patch(self, monkeypatch: Any, *modules: ModuleType) -> None:
        """Replaces the atomics that the modules have imported."""
        replaced: dict[str, Callable[..., Any]] = {
            "load_acquire": self.load,
            "load_relaxed": self.load,
            "store_release": self.store,
            "store_relaxed": self.store,
            "fence_seq_cst": self.fence_seq_cst,
            "fence_acquire": lambda: None,  # total store order: nothing to order
            "fence_release": lambda: None,
            "cpu_pause": lambda: None,
            "copy_lines": self.copy_lines,
        }
        for module in modules:
            for name, function in replaced.items():
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, function)


class SharedWords(np.ndarray):
    """An array that stands for shared memory; others are private to a process."""

    @classmethod
    def zeros(cls, size: int) -> SharedWords:
        return np.zeros(size, np.int64).view(cls)
