"""Unaligned bytes inside a word array, and block moves, for jitted code.

A frame of bytes is copied into a private ``int64`` array; kernels read it there by **byte** index (word index * 8 +
byte), eight bytes at a time where that helps. Nothing here is bounds checked: callers keep eight zero bytes behind
the frame, so that every scan stops at a byte that no grammar allows. Little-endian machines only (as the whole
layout).

Under ``NUMBA_DISABLE_JIT`` plain-Python stand-ins take the place of the intrinsics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from shm.jit import JIT_DISABLED
from shm.words import Words

if JIT_DISABLED:

    def load8(words: Words, i: int) -> int:
        """Eight bytes from byte index ``i`` as a signed little-endian word."""
        return int.from_bytes(words.view(np.uint8)[i : i + 8].tobytes(), "little", signed=True)

    def load1(words: Words, i: int) -> int:
        """The byte at byte index ``i``, 0..255."""
        return int(words.view(np.uint8)[i])

    def digit_run(words: Words, i: int) -> int:
        """How many of the eight bytes from ``i`` on are ASCII digits before the first that is not (0..8)."""
        count = 0
        while count < 8 and 48 <= load1(words, i + count) <= 57:
            count += 1
        return count

    def plain_run(words: Words, i: int) -> int:
        """How many of the eight bytes from ``i`` on may stand in a JSON string as they are (ASCII, no control
        character, quote or backslash) before the first that may not (0..8)."""
        count = 0
        while count < 8 and 32 <= load1(words, i + count) <= 127 and load1(words, i + count) not in (0x22, 0x5C):
            count += 1
        return count

    def byte_marks(words: Words, i: int, wanted: int) -> int:
        """Bit k of the result: byte ``i`` + k equals ``wanted``, k = 0..63 (as a signed word)."""
        found = words.view(np.uint8)[i : i + 64] == wanted
        return int.from_bytes(np.packbits(found, bitorder="little").tobytes(), "little", signed=True)

    def lowest_bit(value: int) -> int:
        """Number of the lowest bit that is set; 64 for 0."""
        return (int(value) & -int(value)).bit_length() - 1 if value else 64

    def zero16(words: Words, i: int) -> None:
        """Sixteen zero bytes at byte index ``i``."""
        words.view(np.uint8)[i : i + 16] = 0

    def digits_value(words: Words, i: int, count: int) -> int:
        """Value of the ``count`` (1..8) ASCII digits at byte index ``i``."""
        value = 0
        for k in range(count):
            value = value * 10 + load1(words, i + k) - 48
        return value

    def get(words: Words, i: int) -> int:
        """Word ``i``; 0 <= i < len(words) is the caller's to know (see the jitted one below)."""
        return int(words[i])

    def put(words: Words, i: int, value: int) -> None:
        """Stores ``value`` at word ``i``; 0 <= i < len(words) is the caller's to know (see the jitted one below)."""
        words[i] = value

    def step_if_below(words: Words, i: int, half: int, key: int) -> int:
        """``half`` if words[i] < key, else 0; without a branch (binary search: the branch would be a coin toss).

        The two lie less than 2^63 apart (both within 2^62 of 0, or of one sign).
        """
        return half if words[i] < key else 0

    def step_if_not_above(words: Words, i: int, half: int, key: int) -> int:
        """``half`` if words[i] <= key, else 0; without a branch."""
        return half if words[i] <= key else 0

    def move_words(words: Words, dst: int, src: int, count: int) -> None:
        """Moves ``count`` words from ``src`` to ``dst``; the ranges may overlap."""
        words[dst : dst + count] = words[src : src + count].copy()

else:
    from llvmlite import ir
    from numba import extending, types
    from numba.core import errors as numba_errors

    _int_intrinsic: Callable[[Any], Callable[..., int]] = extending.intrinsic
    _void_intrinsic: Callable[[Any], Callable[..., None]] = extending.intrinsic

    _I1 = ir.IntType(1)
    _I8 = ir.IntType(8)
    _I64 = ir.IntType(64)
    _V64 = ir.VectorType(_I8, 64)

    def _require_words(name: str, array: Any) -> None:
        if not isinstance(array, types.Array) or array.dtype != types.int64 or array.layout != "C":
            raise numba_errors.TypingError(f"{name}: wanted a C-contiguous int64 array, found {array}")

    def _byte_pointer(context: Any, builder: Any, array_type: Any, array: Any, index_type: Any, index: Any) -> Any:
        data = context.make_array(array_type)(context, builder, array).data
        index = context.cast(builder, index, index_type, types.int64)
        return builder.gep(builder.bitcast(data, _I8.as_pointer()), [index], source_etype=_I8)

    def _load(builder: Any, pointer: Any) -> Any:
        return builder.load(builder.bitcast(pointer, _I64.as_pointer()), align=1, typ=_I64)

    def _c(value: int) -> Any:
        return ir.Constant(_I64, value)

    @_int_intrinsic
    def _i_load8(typingctx: Any, words: Any, i: Any) -> Any:
        """Eight bytes from byte index ``i`` as a signed little-endian word."""
        _require_words("load8", words)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _load(builder, _byte_pointer(context, builder, words, args[0], signature.args[1], args[1]))

        return types.int64(words, i), codegen

    @_int_intrinsic
    def _i_load1(typingctx: Any, words: Any, i: Any) -> Any:
        """The byte at byte index ``i``, 0..255."""
        _require_words("load1", words)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = _byte_pointer(context, builder, words, args[0], signature.args[1], args[1])
            return builder.zext(builder.load(pointer, align=1, typ=_I8), _I64)

        return types.int64(words, i), codegen

    @_int_intrinsic
    def _i_digit_run(typingctx: Any, words: Any, i: Any) -> Any:
        """How many of the eight bytes from ``i`` on are ASCII digits before the first that is not (0..8)."""
        _require_words("digit_run", words)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            # A byte xor '0' is below 10 only for a digit; adding 0x76 then leaves its high bit clear. A carry out of
            # a non-digit byte only reaches later bytes, and only the first non-digit counts.
            value = _load(builder, _byte_pointer(context, builder, words, args[0], signature.args[1], args[1]))
            low = builder.xor(value, _c(0x3030303030303030))
            high = builder.or_(builder.add(low, _c(0x7676767676767676)), low)
            marks = builder.and_(high, _c(0x8080808080808080))
            return builder.lshr(builder.cttz(marks, ir.Constant(_I1, 0)), _c(3))

        return types.int64(words, i), codegen

    @_int_intrinsic
    def _i_plain_run(typingctx: Any, words: Any, i: Any) -> Any:
        """How many of the eight bytes from ``i`` on may stand in a JSON string as they are (ASCII, no control
        character, quote or backslash) before the first that may not (0..8)."""
        _require_words("plain_run", words)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            # (x - 01..) & ~x marks zero bytes of x = value ^ wanted; a borrow only reaches later bytes.
            value = _load(builder, _byte_pointer(context, builder, words, args[0], signature.args[1], args[1]))
            marks = builder.or_(value, builder.and_(builder.sub(value, _c(0x2020202020202020)), builder.not_(value)))
            for wanted in (0x2222222222222222, 0x5C5C5C5C5C5C5C5C):
                x = builder.xor(value, _c(wanted))
                marks = builder.or_(marks, builder.and_(builder.sub(x, _c(0x0101010101010101)), builder.not_(x)))
            marks = builder.and_(marks, _c(0x8080808080808080))
            return builder.lshr(builder.cttz(marks, ir.Constant(_I1, 0)), _c(3))

        return types.int64(words, i), codegen

    @_int_intrinsic
    def _i_byte_marks(typingctx: Any, words: Any, i: Any, wanted: Any) -> Any:
        """Bit k of the result: byte ``i`` + k equals ``wanted``, k = 0..63 (as a signed word)."""
        _require_words("byte_marks", words)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = _byte_pointer(context, builder, words, args[0], signature.args[1], args[1])
            block = builder.load(builder.bitcast(pointer, _V64.as_pointer()), align=1, typ=_V64)
            byte = builder.trunc(context.cast(builder, args[2], signature.args[2], types.int64), _I8)
            first = builder.insert_element(ir.Constant(_V64, ir.Undefined), byte, ir.Constant(ir.IntType(32), 0))
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), 64), [0] * 64)
            every = builder.shuffle_vector(first, ir.Constant(_V64, ir.Undefined), zeros)
            return builder.bitcast(builder.icmp_unsigned("==", block, every), _I64)

        return types.int64(words, i, wanted), codegen

    @_int_intrinsic
    def _i_lowest_bit(typingctx: Any, value: Any) -> Any:
        """Number of the lowest bit that is set; 64 for 0."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            word = context.cast(builder, args[0], signature.args[0], types.int64)
            return builder.cttz(word, ir.Constant(_I1, 0))

        return types.int64(value), codegen

    @_void_intrinsic
    def _i_zero16(typingctx: Any, words: Any, i: Any) -> Any:
        """Sixteen zero bytes at byte index ``i``."""
        _require_words("zero16", words)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = _byte_pointer(context, builder, words, args[0], signature.args[1], args[1])
            pointer = builder.bitcast(pointer, _I64.as_pointer())
            builder.store(_c(0), pointer, align=1)
            builder.store(_c(0), builder.gep(pointer, [_c(1)], source_etype=_I64), align=1)
            return context.get_dummy_value()

        return types.void(words, i), codegen

    @_int_intrinsic
    def _i_digits_value(typingctx: Any, words: Any, i: Any, count: Any) -> Any:
        """Value of the ``count`` (1..8) ASCII digits at byte index ``i``."""
        _require_words("digits_value", words)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            # Three multiplications join neighbours: 8 digits -> 4 pairs -> 2 quads -> 1 value. Shifting left by the
            # missing digits puts zeros in front, because the first character is the lowest byte.
            value = _load(builder, _byte_pointer(context, builder, words, args[0], signature.args[1], args[1]))
            value = builder.xor(value, _c(0x3030303030303030))
            missing = builder.sub(_c(8), context.cast(builder, args[2], signature.args[2], types.int64))
            value = builder.shl(value, builder.shl(missing, _c(3)))
            value = builder.and_(
                builder.add(builder.mul(value, _c(10)), builder.lshr(value, _c(8))), _c(0x00FF00FF00FF00FF)
            )
            value = builder.and_(
                builder.add(builder.mul(value, _c(100)), builder.lshr(value, _c(16))), _c(0x0000FFFF0000FFFF)
            )
            return builder.and_(
                builder.add(builder.mul(value, _c(10000)), builder.lshr(value, _c(32))), _c(0x00000000FFFFFFFF)
            )

        return types.int64(words, i, count), codegen

    def _word_pointer(context: Any, builder: Any, array_type: Any, array: Any, index_type: Any, index: Any) -> Any:
        data = context.make_array(array_type)(context, builder, array).data
        return builder.gep(data, [context.cast(builder, index, index_type, types.int64)], inbounds=True)

    @_int_intrinsic
    def _i_get(typingctx: Any, words: Any, i: Any) -> Any:
        """Word ``i`` of a C-contiguous int64 array, loaded whole (aligned to 8 bytes).

        Nothing is checked: the caller has made sure that 0 <= i < len(words). An index outside reads foreign memory.
        ``words[i]`` in numba asks at every access whether ``i`` is negative; this does not.
        """
        _require_words("get", words)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.load(_word_pointer(context, builder, words, args[0], signature.args[1], args[1]), align=8)

        return types.int64(words, i), codegen

    @_void_intrinsic
    def _i_put(typingctx: Any, words: Any, i: Any, value: Any) -> Any:
        """Stores ``value`` (cast to int64) at word ``i`` of a C-contiguous int64 array (aligned to 8 bytes).

        Nothing is checked: the caller has made sure that 0 <= i < len(words). An index outside writes foreign memory.
        """
        _require_words("put", words)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = _word_pointer(context, builder, words, args[0], signature.args[1], args[1])
            builder.store(context.cast(builder, args[2], signature.args[2], types.int64), pointer, align=8)
            return context.get_dummy_value()

        return types.void(words, i, value), codegen

    def _step(inclusive: bool) -> Callable[..., int]:
        """``half`` if words[i] < key (``inclusive``: <=), else 0, by the sign of the difference: a comparison would be
        compiled to a branch, which in a binary search is a coin toss. Values within 2**62 of zero only."""

        def typer(typingctx: Any, words: Any, i: Any, half: Any, key: Any) -> Any:
            _require_words("step", words)

            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                pointer = _word_pointer(context, builder, words, args[0], signature.args[1], args[1])
                value = builder.load(pointer, align=8)
                wanted = context.cast(builder, args[3], signature.args[3], types.int64)
                step = context.cast(builder, args[2], signature.args[2], types.int64)
                if inclusive:
                    return builder.and_(step, builder.not_(builder.ashr(builder.sub(wanted, value), _c(63))))
                return builder.and_(step, builder.ashr(builder.sub(value, wanted), _c(63)))

            return types.int64(words, i, half, key), codegen

        return _int_intrinsic(typer)

    @_void_intrinsic
    def _i_move_words(typingctx: Any, words: Any, dst: Any, src: Any, count: Any) -> Any:
        """Moves ``count`` words from ``src`` to ``dst``; the ranges may overlap."""
        _require_words("move_words", words)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            data = context.make_array(words)(context, builder, args[0]).data
            ints = [context.cast(builder, args[k], signature.args[k], types.int64) for k in (1, 2, 3)]
            target, source = builder.gep(data, [ints[0]]), builder.gep(data, [ints[1]])
            bytes_type = _I8.as_pointer()
            name = "memmove"
            function_type = ir.FunctionType(bytes_type, [bytes_type, bytes_type, _I64])
            function = builder.module.globals.get(name) or ir.Function(builder.module, function_type, name)
            size = builder.shl(ints[2], _c(3))
            builder.call(function, [builder.bitcast(target, bytes_type), builder.bitcast(source, bytes_type), size])
            return context.get_dummy_value()

        return types.void(words, dst, src, count), codegen

    # Used in kernels only: exported as they are, a jitted wrapper would be one compilation more for each.
    load8 = _i_load8
    load1 = _i_load1
    digit_run = _i_digit_run
    plain_run = _i_plain_run
    byte_marks = _i_byte_marks
    lowest_bit = _i_lowest_bit
    zero16 = _i_zero16
    digits_value = _i_digits_value
    get = _i_get
    put = _i_put
    step_if_below = _step(False)
    step_if_not_above = _step(True)
    move_words = _i_move_words
