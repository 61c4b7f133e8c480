"""Atomic access to shared words, for jitted code and for Python; the only module that touches addresses.

Every operation takes ``(words, i)``: a C-contiguous ``int64`` array and a word index, not bounds checked. A plain
``while words[0] == 0`` in numba compiles to an endless jump, because the compiler may assume that nobody else writes:
shared words are read and written through these functions only. On x86-64 the loads and stores are plain ``mov``,
the fences of acquire and release are nothing but barriers to the compiler, ``fence_seq_cst`` is ``mfence`` or a
locked instruction, ``fetch_add`` is ``lock xadd``, ``compare_exchange`` is ``lock cmpxchg``
(tests/unit/shm/test_atomics.py asserts them in the generated code).

Under ``NUMBA_DISABLE_JIT`` plain-Python stand-ins with the same values take their place, so that coverage and fuzzers
see inside the kernels; they are sequentially consistent within one interpreter and promise nothing across processes.
Integers wrap at 64 bits in both; sums that are meant to wrap go through :func:`wrap_add` and :func:`wrap_sub`.
"""

from __future__ import annotations

import os
import platform
import struct
import time
from collections.abc import Callable
from typing import Any

from shm.jit import JIT_DISABLED, njit
from shm.words import Octets, Words

X86 = platform.machine() in ("x86_64", "AMD64")
_CLOCK_REALTIME = 0
_CLOCK_MONOTONIC = 1
_LINE_WORDS = 8
_MSG_DONTWAIT = 0x40
_MSG_NOSIGNAL = 0x4000

if JIT_DISABLED:
    _MASK = (1 << 64) - 1

    def _wrap(value: int) -> int:
        value = int(value) & _MASK
        return value - (1 << 64) if value >> 63 else value

    def load_acquire(words: Words, i: int) -> int:
        return int(words[i])

    load_relaxed = load_acquire

    def store_release(words: Words, i: int, value: int) -> None:
        words[i] = _wrap(value)

    store_relaxed = store_release

    def fetch_add(words: Words, i: int, value: int) -> int:
        old = int(words[i])
        words[i] = _wrap(old + int(value))
        return old

    def compare_exchange(words: Words, i: int, expected: int, desired: int) -> bool:
        if int(words[i]) != expected:
            return False
        words[i] = _wrap(desired)
        return True

    def fence_acquire() -> None:
        return None

    fence_release = fence_acquire
    fence_seq_cst = fence_acquire
    cpu_pause = fence_acquire

    def sched_yield() -> None:
        os.sched_yield()

    def current_cpu() -> int:
        with open("/proc/thread-self/stat", "rb") as handle:  # field 39: CPU last run on
            raw = handle.read()
        return int(raw[raw.rindex(b")") + 2 :].split()[36])

    def mono_ns() -> int:
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC)

    def wall_ns() -> int:
        return time.time_ns()

    def f64_to_bits(value: float) -> int:
        return int(struct.unpack("<q", struct.pack("<d", value))[0])

    def bits_to_f64(bits: int) -> float:
        return float(struct.unpack("<d", struct.pack("<q", _wrap(bits)))[0])

    def wrap_add(a: int, b: int) -> int:
        return _wrap(int(a) + int(b))

    def wrap_sub(a: int, b: int) -> int:
        return _wrap(int(a) - int(b))

    def clz64(value: int) -> int:
        return 64 - (int(value) & _MASK).bit_length()

    def copy_lines(src: Words, src_i: int, dst: Words, dst_i: int, lines: int) -> None:
        dst[dst_i : dst_i + lines * _LINE_WORDS] = src[src_i : src_i + lines * _LINE_WORDS]

    def write_byte(fd: int, words: Words, i: int) -> int:
        try:
            return os.write(fd, b"\x01")
        except OSError:
            return -1

    def send_octets(fd: int, octets: Octets, start: int, size: int) -> int:
        try:
            return os.write(fd, bytes(octets[start : start + size]))
        except OSError as error:
            return -(error.errno or 1)

else:
    from llvmlite import ir
    from numba import extending, types
    from numba.core import errors as numba_errors

    # How jitted code calls what an intrinsic's typer defines; numba's own types describe the typer.
    _int_intrinsic: Callable[[Any], Callable[..., int]] = extending.intrinsic
    _bool_intrinsic: Callable[[Any], Callable[..., bool]] = extending.intrinsic
    _float_intrinsic: Callable[[Any], Callable[..., float]] = extending.intrinsic
    _void_intrinsic: Callable[[Any], Callable[..., None]] = extending.intrinsic

    _I32 = ir.IntType(32)
    _I64 = ir.IntType(64)
    _VOID = ir.VoidType()
    _LINE = ir.VectorType(_I64, _LINE_WORDS)

    class _VolatileLoad(ir.LoadInstr):  # type: ignore[misc]
        """llvmlite's builder has no volatile access; the instruction's text has."""

        def descr(self, buf: list[str]) -> None:
            super().descr(buf)
            buf[-1] = buf[-1].replace("load ", "load volatile ", 1)

    class _VolatileStore(ir.StoreInstr):  # type: ignore[misc]
        def descr(self, buf: list[str]) -> None:
            super().descr(buf)
            buf[-1] = buf[-1].replace("store ", "store volatile ", 1)

    def _require_words(name: str, *arrays: Any) -> None:
        for array in arrays:
            if not isinstance(array, types.Array) or array.dtype != types.int64 or array.layout != "C":
                raise numba_errors.TypingError(f"{name}: wanted a C-contiguous int64 array, found {array}")

    def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index_type: Any, index: Any) -> Any:
        data = context.make_array(array_type)(context, builder, array).data
        index = context.cast(builder, index, index_type, types.int64)
        return builder.gep(data, [index])

    def _cast(context: Any, builder: Any, signature: Any, args: Any, k: int) -> Any:
        return context.cast(builder, args[k], signature.args[k], types.int64)

    def _load(ordering: str) -> Callable[..., int]:
        def typer(typingctx: Any, words: Any, i: Any) -> Any:
            _require_words("load", words)

            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                pointer = _pointer(context, builder, words, args[0], signature.args[1], args[1])
                return builder.load_atomic(pointer, ordering, 8)

            return types.int64(words, i), codegen

        return _int_intrinsic(typer)

    def _store(ordering: str) -> Callable[..., None]:
        def typer(typingctx: Any, words: Any, i: Any, value: Any) -> Any:
            _require_words("store", words)

            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                pointer = _pointer(context, builder, words, args[0], signature.args[1], args[1])
                builder.store_atomic(_cast(context, builder, signature, args, 2), pointer, ordering, 8)
                return context.get_dummy_value()

            return types.void(words, i, value), codegen

        return _void_intrinsic(typer)

    def _fence(ordering: str) -> Callable[..., None]:
        def typer(typingctx: Any) -> Any:
            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                builder.fence(ordering)
                return context.get_dummy_value()

            return types.void(), codegen

        return _void_intrinsic(typer)

    def _clock(clock_id: int) -> Callable[..., int]:
        def typer(typingctx: Any) -> Any:
            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                # struct timespec { int64 tv_sec; int64 tv_nsec } on every 64-bit Linux
                with builder.goto_entry_block():
                    spec = builder.alloca(ir.ArrayType(_I64, 2))
                function_type = ir.FunctionType(_I32, [_I32, spec.type])
                name = "clock_gettime"
                function = builder.module.globals.get(name) or ir.Function(builder.module, function_type, name)
                builder.call(function, [ir.Constant(_I32, clock_id), spec])
                zero, one = ir.Constant(_I32, 0), ir.Constant(_I32, 1)
                seconds = builder.load(builder.gep(spec, [zero, zero]))
                nanos = builder.load(builder.gep(spec, [zero, one]))
                return builder.add(builder.mul(seconds, ir.Constant(_I64, 1_000_000_000)), nanos)

            return types.int64(), codegen

        return _int_intrinsic(typer)

    _i_load_acquire = _load("acquire")
    _i_load_relaxed = _load("monotonic")
    _i_store_release = _store("release")
    _i_store_relaxed = _store("monotonic")
    _i_fence_acquire = _fence("acquire")
    _i_fence_release = _fence("release")
    _i_fence_seq_cst = _fence("seq_cst")
    _i_mono_ns = _clock(_CLOCK_MONOTONIC)
    _i_wall_ns = _clock(_CLOCK_REALTIME)

    @_int_intrinsic
    def _i_fetch_add(typingctx: Any, words: Any, i: Any, value: Any) -> Any:
        _require_words("fetch_add", words)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = _pointer(context, builder, words, args[0], signature.args[1], args[1])
            return builder.atomic_rmw("add", pointer, _cast(context, builder, signature, args, 2), "seq_cst")

        return types.int64(words, i, value), codegen

    @_bool_intrinsic
    def _i_compare_exchange(typingctx: Any, words: Any, i: Any, expected: Any, desired: Any) -> Any:
        _require_words("compare_exchange", words)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = _pointer(context, builder, words, args[0], signature.args[1], args[1])
            old = _cast(context, builder, signature, args, 2)
            new = _cast(context, builder, signature, args, 3)
            pair = builder.cmpxchg(pointer, old, new, "acq_rel", "acquire")
            return builder.extract_value(pair, 1)

        return types.boolean(words, i, expected, desired), codegen

    @_void_intrinsic
    def _i_cpu_pause(typingctx: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            if X86:
                name, argument_types, values = "llvm.x86.sse2.pause", [], []
            else:  # aarch64: hint 1 = yield
                name, argument_types, values = "llvm.aarch64.hint", [_I32], [ir.Constant(_I32, 1)]
            module = builder.module
            function = module.globals.get(name) or ir.Function(module, ir.FunctionType(_VOID, argument_types), name)
            builder.call(function, values)
            return context.get_dummy_value()

        return types.void(), codegen

    def _call_int_void(name: str) -> Callable[..., int]:
        """int name(void) of the C library."""

        def typer(typingctx: Any) -> Any:
            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                module = builder.module
                function = module.globals.get(name) or ir.Function(module, ir.FunctionType(_I32, []), name)
                return builder.sext(builder.call(function, []), _I64)

            return types.int64(), codegen

        return _int_intrinsic(typer)

    @_int_intrinsic
    def _i_send_octets(typingctx: Any, fd: Any, octets: Any, start: Any, size: Any) -> Any:
        if not isinstance(octets, types.Array) or octets.dtype != types.uint8 or octets.layout != "C":
            raise numba_errors.TypingError(f"send_octets: wanted a C-contiguous uint8 array, found {octets}")

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = _pointer(context, builder, octets, args[1], signature.args[2], args[2])
            fd32 = context.cast(builder, args[0], signature.args[0], types.int32)
            found, module = builder.module.globals.get, builder.module
            kind = ir.FunctionType(_I64, [_I32, pointer.type, _I64, _I32])
            send = found("send") or ir.Function(module, kind, "send")
            kind = ir.FunctionType(_I32.as_pointer(), [])
            errno_of = found("__errno_location") or ir.Function(module, kind, "__errno_location")
            flags = ir.Constant(_I32, _MSG_NOSIGNAL | _MSG_DONTWAIT)
            taken = builder.call(send, [fd32, pointer, _cast(context, builder, signature, args, 3), flags])
            errno = builder.sext(builder.load(builder.call(errno_of, [])), _I64)
            return builder.select(builder.icmp_signed("<", taken, ir.Constant(_I64, 0)), builder.neg(errno), taken)

        return types.int64(fd, octets, start, size), codegen

    _i_sched_yield = _call_int_void("sched_yield")
    _i_current_cpu = _call_int_void("sched_getcpu")

    @_int_intrinsic
    def _i_write_byte(typingctx: Any, fd: Any, words: Any, i: Any) -> Any:
        _require_words("write_byte", words)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = _pointer(context, builder, words, args[1], signature.args[2], args[2])
            address = builder.ptrtoint(pointer, _I64)
            function_type = ir.FunctionType(_I64, [_I32, _I64, _I64])
            function = builder.module.globals.get("write") or ir.Function(builder.module, function_type, "write")
            fd32 = context.cast(builder, args[0], signature.args[0], types.int32)
            return builder.call(function, [fd32, address, ir.Constant(_I64, 1)])

        return types.int64(fd, words, i), codegen

    @_int_intrinsic
    def _i_f64_to_bits(typingctx: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.bitcast(context.cast(builder, args[0], signature.args[0], types.float64), _I64)

        return types.int64(value), codegen

    @_float_intrinsic
    def _i_bits_to_f64(typingctx: Any, bits: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.bitcast(_cast(context, builder, signature, args, 0), ir.DoubleType())

        return types.float64(bits), codegen

    def _wrapping(operation: str) -> Callable[..., int]:
        """Add or subtract without numba's "no signed wrap" flag, which lets LLVM turn a - b > 0 into a > b."""

        def typer(typingctx: Any, a: Any, b: Any) -> Any:
            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                left, right = (_cast(context, builder, signature, args, k) for k in (0, 1))
                return getattr(builder, operation)(left, right)

            return types.int64(a, b), codegen

        return _int_intrinsic(typer)

    _i_wrap_add = _wrapping("add")
    _i_wrap_sub = _wrapping("sub")

    @_int_intrinsic
    def _i_clz64(typingctx: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.ctlz(_cast(context, builder, signature, args, 0), ir.Constant(ir.IntType(1), 0))

        return types.int64(value), codegen

    @_void_intrinsic
    def _i_copy_line(typingctx: Any, src: Any, src_i: Any, dst: Any, dst_i: Any) -> Any:
        """One cache line; volatile: never elided, repeated, or moved over a fence."""
        _require_words("copy_line", src, dst)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            source = _pointer(context, builder, src, args[0], signature.args[1], args[1])
            target = _pointer(context, builder, dst, args[2], signature.args[3], args[3])
            line = _VolatileLoad(builder.block, builder.bitcast(source, _LINE.as_pointer()), typ=_LINE)
            line.align = 8
            builder._insert(line)
            store = _VolatileStore(builder.block, line, builder.bitcast(target, _LINE.as_pointer()))
            store.align = 8
            builder._insert(store)
            return context.get_dummy_value()

        return types.void(src, src_i, dst, dst_i), codegen

    @njit
    def load_acquire(words: Words, i: int) -> int:
        """words[i]; nothing after it moves before it. Pairs with ``store_release``."""
        return _i_load_acquire(words, i)

    @njit
    def load_relaxed(words: Words, i: int) -> int:
        """words[i], read exactly once, unordered."""
        return _i_load_relaxed(words, i)

    @njit
    def store_release(words: Words, i: int, value: int) -> None:
        """words[i] = value; everything before it is visible to whoever acquires it."""
        _i_store_release(words, i, value)

    @njit
    def store_relaxed(words: Words, i: int, value: int) -> None:
        """words[i] = value, written exactly once, unordered."""
        _i_store_relaxed(words, i, value)

    @njit
    def fetch_add(words: Words, i: int, value: int) -> int:
        """Adds atomically (sequentially consistent) and returns the old value."""
        return _i_fetch_add(words, i, value)

    @njit
    def compare_exchange(words: Words, i: int, expected: int, desired: int) -> bool:
        """words[i] = desired if it is ``expected``; whether it was."""
        return _i_compare_exchange(words, i, expected, desired)

    @njit
    def fence_acquire() -> None:
        """Loads before it stay before everything after it."""
        _i_fence_acquire()

    @njit
    def fence_release() -> None:
        """Everything before it stays before the stores after it."""
        _i_fence_release()

    @njit
    def fence_seq_cst() -> None:
        """A store before it is visible before a load after it happens (the sleeping-flag protocol)."""
        _i_fence_seq_cst()

    @njit
    def cpu_pause() -> None:
        """Tells the core that this is a spin loop."""
        _i_cpu_pause()

    @njit
    def sched_yield() -> None:
        """Gives the CPU to another runnable thread."""
        _i_sched_yield()

    @njit
    def current_cpu() -> int:
        """The CPU that this thread runs on now."""
        return _i_current_cpu()

    @njit
    def mono_ns() -> int:
        """CLOCK_MONOTONIC in ns: the engine's one clock for ages and latencies."""
        return _i_mono_ns()

    @njit
    def wall_ns() -> int:
        """CLOCK_REALTIME in ns since 1970: only for what venues claim and for records that people read."""
        return _i_wall_ns()

    @njit
    def f64_to_bits(value: float) -> int:
        """The float64's bits as int64."""
        return _i_f64_to_bits(value)

    @njit
    def bits_to_f64(bits: int) -> float:
        """The float64 with these bits."""
        return _i_bits_to_f64(bits)

    @njit
    def wrap_add(a: int, b: int) -> int:
        """a + b modulo 2^64, signed."""
        return _i_wrap_add(a, b)

    @njit
    def wrap_sub(a: int, b: int) -> int:
        """a - b modulo 2^64, signed: the distance of two wrapping counters."""
        return _i_wrap_sub(a, b)

    @njit
    def clz64(value: int) -> int:
        """Leading zero bits of the 64-bit value; 64 for 0."""
        return _i_clz64(value)

    @njit
    def copy_lines(src: Words, src_i: int, dst: Words, dst_i: int, lines: int) -> None:
        """Copies ``lines`` x 8 words by whole cache lines; ordering comes from the fences around it."""
        for k in range(lines):
            _i_copy_line(src, src_i + k * _LINE_WORDS, dst, dst_i + k * _LINE_WORDS)

    @njit
    def write_byte(fd: int, words: Words, i: int) -> int:
        """write(fd, any byte, 1); the C return value (-1: full or closed, which a bell may ignore)."""
        return _i_write_byte(fd, words, i)

    @njit
    def send_octets(fd: int, octets: Octets, start: int, size: int) -> int:
        """send(2) of ``octets[start : start + size]`` without waiting or a signal: the bytes taken, or -errno."""
        return _i_send_octets(fd, octets, start, size)
