"""Sends by TLS from jitted code: the library encrypts into memory, and one send(2) gives the record to the socket.

The functions of libssl are called where a SEAL says that they lie, with the connection's own objects; who owns these
fills the SEAL (pipeline/exchanges/transport/tls.py) and answers for them. Under ``NUMBA_DISABLE_JIT`` the same calls
are made by ctypes.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Any

from shm.declare import Table, word
from shm.jit import JIT_DISABLED, njit_bare
from shm.words import Octets

_BIO_RESET = 1
_BIO_INFO = 3
_MSG_DONTWAIT = 0x40
_MSG_NOSIGNAL = 0x4000
_PROTOCOL_ERROR = errno.EPROTO


class Seal(Table, words=8, writer="executor"):
    """How the orders of one connection are encrypted. 64 bytes of its owner's own memory.

    | ssl_write | bio_ctrl | ssl | out | made_at | taken | 0[2] |
    """

    ssl_write = word("SSL_write of libssl", unit="address")
    bio_ctrl = word("BIO_ctrl of libcrypto", unit="address")
    ssl = word("the connection's SSL", unit="address")
    out = word("the memory BIO that it leaves records in: empty whenever no call runs", unit="address")
    made_at = word("the records of the last send", unit="address")
    taken = word("of them: bytes that the socket took; below 0: the error's number, negative")


SEAL = Seal()
NO_SEAL = 0  # the address of a plain connection's
_MADE_AT = 8 * SEAL.made_at

if JIT_DISABLED:
    _C = ctypes.c_void_p

    def _word_at(address: int, i: int) -> int:
        return int(ctypes.c_int64.from_address(address + 8 * i).value)

    def _set_word_at(address: int, i: int, value: int) -> None:
        ctypes.c_int64.from_address(address + 8 * i).value = value

    def _encrypt(ssl_write: int, ssl: int, octets: Octets, start: int, size: int) -> int:
        function = ctypes.PYFUNCTYPE(ctypes.c_int, _C, _C, ctypes.c_int)(ssl_write)
        return int(function(ssl, octets.ctypes.data + start, size))

    def _control(bio_ctrl: int, bio: int, command: int, argument: int) -> int:
        return int(ctypes.PYFUNCTYPE(ctypes.c_long, _C, ctypes.c_int, ctypes.c_long, _C)(bio_ctrl)(
            bio, command, 0, argument or None
        ))  # fmt: skip

    def _send(fd: int, address: int, size: int) -> int:
        try:
            return os.write(fd, ctypes.string_at(address, size))
        except OSError as error:
            return -(error.errno or 1)

else:
    from llvmlite import ir
    from numba import extending, types
    from numba.core import errors as numba_errors

    _I32, _I64 = ir.IntType(32), ir.IntType(64)
    _int_intrinsic: Any = extending.intrinsic

    def _function_at(builder: Any, address: Any, result: Any, *arguments: Any) -> Any:
        return builder.inttoptr(address, ir.FunctionType(result, arguments).as_pointer())

    @_int_intrinsic
    def _word_at(typingctx: Any, address: Any, i: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            at = builder.add(args[0], builder.mul(args[1], ir.Constant(_I64, 8)))
            return builder.load(builder.inttoptr(at, _I64.as_pointer()))

        return types.int64(types.int64, types.int64), codegen

    @_int_intrinsic
    def _set_word_at(typingctx: Any, address: Any, i: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            at = builder.add(args[0], builder.mul(args[1], ir.Constant(_I64, 8)))
            builder.store(args[2], builder.inttoptr(at, _I64.as_pointer()))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64), codegen

    @_int_intrinsic
    def _encrypt(typingctx: Any, ssl_write: Any, ssl: Any, octets: Any, start: Any, size: Any) -> Any:
        if not isinstance(octets, types.Array) or octets.dtype != types.uint8 or octets.layout != "C":
            raise numba_errors.TypingError(f"wanted a C-contiguous uint8 array, found {octets}")

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            data = builder.gep(context.make_array(octets)(context, builder, args[2]).data, [args[3]])
            function = _function_at(builder, args[0], _I32, _I64, _I64, _I32)
            arguments = [args[1], builder.ptrtoint(data, _I64), builder.trunc(args[4], _I32)]
            return builder.sext(builder.call(function, arguments), _I64)

        return types.int64(types.int64, types.int64, octets, types.int64, types.int64), codegen

    @_int_intrinsic
    def _control(typingctx: Any, bio_ctrl: Any, bio: Any, command: Any, argument: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            function = _function_at(builder, args[0], _I64, _I64, _I32, _I64, _I64)
            return builder.call(function, [args[1], builder.trunc(args[2], _I32), ir.Constant(_I64, 0), args[3]])

        return types.int64(types.int64, types.int64, types.int64, types.int64), codegen

    @_int_intrinsic
    def _send(typingctx: Any, fd: Any, address: Any, size: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            found, module, byte_at = builder.module.globals.get, builder.module, ir.IntType(8).as_pointer()
            kind = ir.FunctionType(_I64, [_I32, byte_at, _I64, _I32])
            send = found("send") or ir.Function(module, kind, "send")
            kind = ir.FunctionType(_I32.as_pointer(), [])
            errno_of = found("__errno_location") or ir.Function(module, kind, "__errno_location")
            flags = ir.Constant(_I32, _MSG_NOSIGNAL | _MSG_DONTWAIT)
            data = builder.inttoptr(args[1], byte_at)
            taken = builder.call(send, [builder.trunc(args[0], _I32), data, args[2], flags])
            number = builder.sext(builder.load(builder.call(errno_of, [])), _I64)
            return builder.select(builder.icmp_signed("<", taken, ir.Constant(_I64, 0)), builder.neg(number), taken)

        return types.int64(types.int64, types.int64, types.int64), codegen


@njit_bare
def send_sealed(seal: int, fd: int, octets: Octets, start: int, size: int) -> int:
    """Encrypts ``octets[start : start + size]`` and gives the record to the socket, without waiting or a signal.
    ``seal``: address of a SEAL; ``octets``: uint8 (n,).

    Returns ``size`` where the socket took all of it; less, but at least one, where it took a part: the record lies in
    ``out`` then, and ``taken`` says how much of it has gone. 0 or -errno: it took nothing, and the record must never
    be sent: the connection is to be ended, as the peer would miss it.
    """
    bio_ctrl, out = _word_at(seal, SEAL.bio_ctrl), _word_at(seal, SEAL.out)
    if _encrypt(_word_at(seal, SEAL.ssl_write), _word_at(seal, SEAL.ssl), octets, start, size) != size:
        return -_PROTOCOL_ERROR
    made = _control(bio_ctrl, out, _BIO_INFO, seal + _MADE_AT)
    taken = _send(fd, _word_at(seal, SEAL.made_at), made)
    _set_word_at(seal, SEAL.taken, taken)
    if taken == made:
        _control(bio_ctrl, out, _BIO_RESET, 0)
        return size
    return min(taken, size - 1)
