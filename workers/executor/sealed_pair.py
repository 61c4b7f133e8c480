"""TLS from this process to itself, for rehearsals: what is encrypted leads nowhere, by the very code that encrypts
orders. The key is made here and lives as long as the handshake; nobody is identified, and nothing is decrypted.
"""

from __future__ import annotations

import _ssl
import ctypes
from ctypes import c_int, c_long, c_void_p
from typing import Any

import numpy as np

from pipeline.exchanges.transport.openssl import BIO_INFO, BIO_RESET, LibSsl
from shm.tls.sealed import SEAL

_ED25519 = 1087
_DAY_S = 86_400
_ROUNDS_MAX = 10  # of a handshake without questions: two
_SIGNATURES: dict[str, tuple[Any, ...]] = {  # name -> result, arguments
    "TLS_server_method": (c_void_p,),
    "EVP_PKEY_CTX_new_id": (c_void_p, c_int, c_void_p),
    "EVP_PKEY_CTX_free": (None, c_void_p),
    "EVP_PKEY_keygen_init": (c_int, c_void_p),
    "EVP_PKEY_keygen": (c_int, c_void_p, c_void_p),
    "EVP_PKEY_free": (None, c_void_p),
    "X509_new": (c_void_p,),
    "X509_free": (None, c_void_p),
    "X509_getm_notBefore": (c_void_p, c_void_p),
    "X509_getm_notAfter": (c_void_p, c_void_p),
    "X509_gmtime_adj": (c_void_p, c_void_p, c_long),
    "X509_set_pubkey": (c_int, c_void_p, c_void_p),
    "X509_sign": (c_int, c_void_p, c_void_p, c_void_p),
    "SSL_CTX_use_certificate": (c_int, c_void_p, c_void_p),
    "SSL_CTX_use_PrivateKey": (c_int, c_void_p, c_void_p),
    "SSL_set_accept_state": (None, c_void_p),
}


class SealedPair:
    """``ssl``: one whose handshake is done; ``seal``: its own, as an order's connection has one."""

    def __init__(self, lib: LibSsl) -> None:
        """Raises OSError where the library does not do it."""
        self._lib = lib
        self._more = more = ctypes.PyDLL(getattr(_ssl, "__file__", None))
        try:
            for name, (result, *arguments) in _SIGNATURES.items():
                function = getattr(more, name)
                function.restype, function.argtypes = result, arguments
        except AttributeError as error:
            raise OSError(f"rehearsal over TLS: {error}") from None
        client = lib.SSL_CTX_new(lib.TLS_client_method())
        server = lib.SSL_CTX_new(more.TLS_server_method())
        made = self._certified(server)
        self.ssl, self._in, self._out = self._ends(client)
        lib.SSL_set_connect_state(self.ssl)
        theirs, their_in, their_out = self._ends(server)
        more.SSL_set_accept_state(theirs)
        done = made and self._shaken(theirs, their_in, their_out)
        lib.SSL_free(theirs)
        lib.SSL_CTX_free(client)
        lib.SSL_CTX_free(server)
        if not done:
            reason = lib.reason()
            self.close()
            raise OSError(f"rehearsal over TLS: {reason}")
        self._seal = np.zeros(SEAL.WORDS, np.int64)
        self._seal[SEAL.ssl_write], self._seal[SEAL.bio_ctrl] = lib.address("SSL_write"), lib.address("BIO_ctrl")
        self._seal[SEAL.ssl], self._seal[SEAL.out] = self.ssl, self._out
        self.seal: int = self._seal.ctypes.data

    def _certified(self, context: int) -> bool:
        """Gives a context a key, and a certificate that says nothing."""
        more, key = self._more, ctypes.c_void_p()
        maker = more.EVP_PKEY_CTX_new_id(_ED25519, None)
        made = more.EVP_PKEY_keygen_init(maker) == 1 and more.EVP_PKEY_keygen(maker, ctypes.byref(key)) == 1
        more.EVP_PKEY_CTX_free(maker)
        if not made:
            return False
        certificate = more.X509_new()
        more.X509_gmtime_adj(more.X509_getm_notBefore(certificate), -_DAY_S)
        more.X509_gmtime_adj(more.X509_getm_notAfter(certificate), _DAY_S)
        made = bool(
            more.X509_set_pubkey(certificate, key) == 1
            and more.X509_sign(certificate, key, None) > 0
            and more.SSL_CTX_use_certificate(context, certificate) == 1
            and more.SSL_CTX_use_PrivateKey(context, key) == 1
        )
        more.X509_free(certificate)
        more.EVP_PKEY_free(key)
        return made

    def _ends(self, context: int) -> tuple[int, int, int]:
        """An SSL between two memory BIOs: it, what it reads, what it writes."""
        lib = self._lib
        made, incoming, outgoing = lib.SSL_new(context), lib.BIO_new(lib.BIO_s_mem()), lib.BIO_new(lib.BIO_s_mem())
        lib.SSL_set_bio(made, incoming, outgoing)
        return made, incoming, outgoing

    def _shaken(self, theirs: int, their_in: int, their_out: int) -> bool:
        """Both ends' handshake."""
        lib = self._lib
        for _ in range(_ROUNDS_MAX):
            ours_done = lib.SSL_do_handshake(self.ssl) == 1
            self._carry(self._out, their_in)
            theirs_done = lib.SSL_do_handshake(theirs) == 1
            self._carry(their_out, self._in)
            if ours_done and theirs_done:
                lib.ERR_clear_error()
                return True
        return False

    def _carry(self, source: int, target: int) -> None:
        lib, data = self._lib, ctypes.c_void_p()
        size = lib.BIO_ctrl(source, BIO_INFO, 0, ctypes.byref(data))
        if size > 0:
            lib.BIO_write(target, data, size)
            lib.BIO_ctrl(source, BIO_RESET, 0, None)

    def close(self) -> None:
        """Frees it."""
        self._lib.SSL_free(self.ssl)
        self._lib.ERR_clear_error()
        self.ssl = 0
