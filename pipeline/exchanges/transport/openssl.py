"""The libssl that Python's own ``ssl`` has loaded, called directly: what a jitted kernel needs to encrypt.

Its functions are looked up through the extension module behind ``ssl``, so that no second library, and no other
version, comes into the process. Only the public interface of OpenSSL 1.1.1 and later is used, and nothing of CPython's
objects. Where they cannot be found (a Python with OpenSSL linked in and hidden), or make no context like that of
``ssl`` (a host's own rules), :func:`client_context` is None and :func:`why_missing` says why: connections are then
those of ``ssl``.
"""

from __future__ import annotations

import _ssl
import ctypes
import functools
import ipaddress
import os
import ssl
import weakref
from ctypes import c_char_p, c_int, c_long, c_size_t, c_uint32, c_uint64, c_ulong, c_void_p
from typing import Any

VERSION_MIN = 0x10101000  # 1.1.1: TLS 1.3, key updates

# --- numbers of openssl/ssl.h and openssl/bio.h ---
BIO_RESET = 1
BIO_INFO = 3
WANT_READ = 2
ZERO_RETURN = 6
NO_KEY_UPDATE = -1
_VERIFY_PEER = 1
_SET_SESSION_CACHE = 44
_SET_HOST_NAME = 55
_SET_VERSION_MIN = 123
_SET_VERSION_MAX = 124
_NO_RENEGOTIATION = 1 << 30
_NO_PARTIAL_WILDCARDS = 4
_CERTIFICATE_OK = 0

_SIGNATURES: dict[str, tuple[Any, ...]] = {  # name -> result, arguments
    "OpenSSL_version_num": (c_ulong,),
    "TLS_client_method": (c_void_p,),
    "SSL_CTX_new": (c_void_p, c_void_p),
    "SSL_CTX_free": (None, c_void_p),
    "SSL_CTX_ctrl": (c_long, c_void_p, c_int, c_long, c_void_p),
    "SSL_CTX_set_options": (c_uint64, c_void_p, c_uint64),
    "SSL_CTX_set_cipher_list": (c_int, c_void_p, c_char_p),
    "SSL_CTX_set_security_level": (None, c_void_p, c_int),
    "SSL_CTX_set_verify": (None, c_void_p, c_int, c_void_p),
    "SSL_CTX_set_default_verify_paths": (c_int, c_void_p),
    "SSL_CTX_get0_param": (c_void_p, c_void_p),
    "X509_VERIFY_PARAM_set_flags": (c_int, c_void_p, c_ulong),
    "X509_VERIFY_PARAM_set_hostflags": (None, c_void_p, c_uint32),
    "X509_VERIFY_PARAM_set1_ip_asc": (c_int, c_void_p, c_char_p),
    "X509_VERIFY_PARAM_set1_host": (c_int, c_void_p, c_char_p, c_size_t),
    "X509_verify_cert_error_string": (c_char_p, c_long),
    "SSL_new": (c_void_p, c_void_p),
    "SSL_free": (None, c_void_p),
    "SSL_ctrl": (c_long, c_void_p, c_int, c_long, c_void_p),
    "SSL_get0_param": (c_void_p, c_void_p),
    "SSL_set_bio": (None, c_void_p, c_void_p, c_void_p),
    "SSL_set_connect_state": (None, c_void_p),
    "SSL_do_handshake": (c_int, c_void_p),
    "SSL_read": (c_int, c_void_p, c_void_p, c_int),
    "SSL_write": (c_int, c_void_p, c_char_p, c_int),
    "SSL_shutdown": (c_int, c_void_p),
    "SSL_get_error": (c_int, c_void_p, c_int),
    "SSL_get_verify_result": (c_long, c_void_p),
    "SSL_get_key_update_type": (c_int, c_void_p),
    "SSL_has_pending": (c_int, c_void_p),
    "SSL_in_init": (c_int, c_void_p),
    "BIO_s_mem": (c_void_p,),
    "BIO_new": (c_void_p, c_void_p),
    "BIO_write": (c_int, c_void_p, c_void_p, c_int),
    "BIO_ctrl": (c_long, c_void_p, c_int, c_long, c_void_p),
    "BIO_ctrl_pending": (c_size_t, c_void_p),
    "ERR_clear_error": (None,),
    "ERR_get_error": (c_ulong,),
    "ERR_reason_error_string": (c_char_p, c_ulong),
}


class Missing(Exception):
    """The library is not there, or not one that is known here."""


class LibSsl:
    """Its functions, by their own names. The interpreter's lock is kept: none of them waits, as no socket is given to
    the library."""

    def __init__(self, library: ctypes.PyDLL) -> None:
        """Raises Missing."""
        try:
            for name, (result, *arguments) in _SIGNATURES.items():
                function = getattr(library, name)
                function.restype, function.argtypes = result, arguments
                setattr(self, name, function)
        except AttributeError as error:
            raise Missing(str(error)) from None
        version = self.OpenSSL_version_num()
        if version != ssl.OPENSSL_VERSION_NUMBER or version < VERSION_MIN:
            raise Missing(f"found version {version:#x}; wanted that of Python's ssl, {VERSION_MIN:#x} or later")

    def __getattr__(self, name: str) -> Any:
        """By whoever checks types: every name of the table above is a function."""
        raise AttributeError(name)

    def address(self, name: str) -> int:
        """Where a function lies."""
        return ctypes.cast(getattr(self, name), c_void_p).value or 0

    def reason(self) -> str:
        """The newest error in the library's queue, in its own words; the queue is empty afterwards."""
        code = self.ERR_get_error()
        self.ERR_clear_error()
        return (self.ERR_reason_error_string(code) or b"unknown error").decode() if code else "no reason given"


@functools.cache
def _found() -> tuple[LibSsl | None, str]:
    try:
        # Names are looked up in that module and in what it was linked with: the very library.
        return LibSsl(ctypes.PyDLL(getattr(_ssl, "__file__", None))), ""
    except (Missing, OSError) as error:
        return None, f"{ssl.OPENSSL_VERSION}: {error}"


def libssl() -> LibSsl | None:
    """The library; None where it cannot be called."""
    return _found()[0]


def why_missing() -> str:
    """Why connections are those of ``ssl``; "": they are our own."""
    return _found()[1] or _of_this_process()[1]


class ClientContext:
    """What connections to venues have in common: the settings of a context of Python's ``ssl``, in one of our own.
    Certificates are checked against the same trust store, the library's default."""

    def __init__(self, lib: LibSsl, like: ssl.SSLContext) -> None:
        """Raises ssl.SSLError."""
        if not like.check_hostname or like.verify_mode is not ssl.CERT_REQUIRED:
            raise ValueError("wanted a context that checks certificates and host names")
        self.lib = lib
        self.pointer = context = _made(lib, lib.SSL_CTX_new(lib.TLS_client_method()))
        weakref.finalize(self, lib.SSL_CTX_free, context)
        ciphers = ":".join(row["name"] for row in like.get_ciphers() if row["protocol"] != "TLSv1.3")
        # No renegotiation: it could turn a write into a question to the peer. Sessions are not resumed.
        lib.SSL_CTX_set_options(context, int(like.options) | _NO_RENEGOTIATION)
        lib.SSL_CTX_ctrl(context, _SET_SESSION_CACHE, 0, None)
        lib.SSL_CTX_set_security_level(context, like.security_level)
        lib.SSL_CTX_set_verify(context, _VERIFY_PEER, None)
        rules = lib.SSL_CTX_get0_param(context)
        lib.X509_VERIFY_PARAM_set_flags(rules, int(like.verify_flags))
        lib.X509_VERIFY_PARAM_set_hostflags(rules, _NO_PARTIAL_WILDCARDS)
        _made(lib, lib.SSL_CTX_ctrl(context, _SET_VERSION_MIN, max(0, like.minimum_version), None))
        _made(lib, lib.SSL_CTX_ctrl(context, _SET_VERSION_MAX, max(0, like.maximum_version), None))
        _made(lib, lib.SSL_CTX_set_cipher_list(context, ciphers.encode()))
        _made(lib, lib.SSL_CTX_set_default_verify_paths(context))
        lib.ERR_clear_error()  # a file of the default that is not there is none

    def new_ssl(self, host: str) -> int:
        """An SSL* for one connection to ``host``, whose certificate must be for that name or address. The caller frees
        it. Raises ssl.SSLError."""
        try:
            name = host.encode("idna")
        except UnicodeError:
            name = b""
        if not name or name.startswith(b".") or b"\0" in name:  # the library would check none, or less of it
            raise ssl.SSLError(1, f"host name {host!r}: wanted a whole name or an address")
        lib = self.lib
        made = _made(lib, lib.SSL_new(self.pointer))
        rules = lib.SSL_get0_param(made)
        try:
            ipaddress.ip_address(host)
        except ValueError:
            named = lib.SSL_ctrl(made, _SET_HOST_NAME, 0, name) and lib.X509_VERIFY_PARAM_set1_host(rules, name, 0)
        else:
            named = lib.X509_VERIFY_PARAM_set1_ip_asc(rules, name)
        if not named:
            lib.SSL_free(made)
            raise ssl.SSLError(1, f"host name {host!r}: {lib.reason()}")
        lib.SSL_set_connect_state(made)
        return int(made)

    def error_of(self, pointer: int) -> ssl.SSLError:
        """Why an operation on an SSL* has failed, as Python's ``ssl`` says it."""
        verified, reason = self.lib.SSL_get_verify_result(pointer), self.lib.reason()
        if verified == _CERTIFICATE_OK:
            return ssl.SSLError(1, reason)
        text = self.lib.X509_verify_cert_error_string(verified).decode()
        return ssl.SSLCertVerificationError(1, f"certificate verify failed: {text}")


def _made(lib: LibSsl, result: Any) -> Any:
    """What a function of the library returned. Raises ssl.SSLError where that is nothing."""
    if not result:
        raise ssl.SSLError(1, lib.reason())
    return result


def client_context() -> ClientContext | None:
    """The context of this process; None where the library cannot be called, or makes none. Another trust store in the
    environment is another context."""
    return _of_this_process()[0]


def _of_this_process() -> tuple[ClientContext | None, str]:
    lib = libssl()
    if lib is None:
        return None, ""
    return _context(lib, os.environ.get("SSL_CERT_FILE", ""), os.environ.get("SSL_CERT_DIR", ""))


@functools.lru_cache(maxsize=4)
def _context(lib: LibSsl, _file: str, _folder: str) -> tuple[ClientContext | None, str]:
    try:
        return ClientContext(lib, tls_context()), ""
    except ssl.SSLError as error:
        return None, f"{ssl.OPENSSL_VERSION}: no context with the settings of Python's ssl: {error.strerror}"


def tls_context() -> ssl.SSLContext:
    """TLS 1.2 at least, certificates and host names checked."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
