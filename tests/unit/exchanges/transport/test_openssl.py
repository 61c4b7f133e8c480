"""The library behind Python's ``ssl``: the same one, with the same settings, or none."""

from __future__ import annotations

import _ssl
import ctypes
import ssl

import pytest

from pipeline.exchanges.transport import openssl
from pipeline.exchanges.transport.openssl import ClientContext, LibSsl, Missing, client_context, libssl, tls_context


def test_it_is_the_library_of_pythons_own_ssl() -> None:
    lib = libssl()
    assert lib is not None and not openssl.why_missing()
    assert lib.OpenSSL_version_num() == ssl.OPENSSL_VERSION_NUMBER
    assert lib.address("SSL_write") == ctypes.cast(lib.SSL_write, ctypes.c_void_p).value


def test_a_library_that_lacks_a_function_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(openssl._SIGNATURES, "SSL_of_the_future", (None,))
    with pytest.raises(Missing, match="undefined symbol: SSL_of_the_future"):
        LibSsl(ctypes.PyDLL(_ssl.__file__))


def test_another_version_than_that_of_ssl_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssl, "OPENSSL_VERSION_NUMBER", 0x30000000)
    openssl._found.cache_clear()
    try:
        assert libssl() is None and client_context() is None
        assert "found version" in openssl.why_missing() and ssl.OPENSSL_VERSION in openssl.why_missing()
    finally:
        openssl._found.cache_clear()


def test_a_library_that_makes_no_context_like_that_of_ssl_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host's own rules may leave no cipher below TLS 1.3; connections are then those of ``ssl``."""
    lib = libssl()
    assert lib is not None
    monkeypatch.setattr(lib, "SSL_CTX_set_cipher_list", lambda *_: 0)
    openssl._context.cache_clear()
    try:
        assert client_context() is None
        assert "no context with the settings of Python's ssl" in openssl.why_missing()
    finally:
        openssl._context.cache_clear()


def test_contexts_are_one_for_each_trust_store(monkeypatch: pytest.MonkeyPatch) -> None:
    first = client_context()
    assert first is not None and client_context() is first
    monkeypatch.setenv("SSL_CERT_DIR", "/nowhere")
    assert client_context() is not first


@pytest.mark.parametrize("weaker", [{"check_hostname": False}, {"check_hostname": False, "verify_mode": ssl.CERT_NONE}])
def test_a_context_that_checks_less_is_refused(weaker: dict[str, object]) -> None:
    lib, like = libssl(), tls_context()
    assert lib is not None
    for name, value in weaker.items():
        setattr(like, name, value)
    with pytest.raises(ValueError, match="checks certificates"):
        ClientContext(lib, like)


@pytest.mark.parametrize("host", ["", ".gateio.ws", "a\0b", "x" * 300])
def test_no_connection_without_a_name_to_check(host: str) -> None:
    context = client_context()
    assert context is not None
    with pytest.raises(ssl.SSLError, match="host name"):
        context.new_ssl(host)
