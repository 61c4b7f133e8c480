"""API keys from encrypted variables, endpoints, and a session for requests of your own."""

from __future__ import annotations

import os

import aiohttp
from cryptography.fernet import Fernet

from arbitrage import ExchangeName, MexcPrivateExchange, MexcPublicExchange


def get_encrypted_api_key(exchange_name: str) -> str:
    """Retrieve and decrypt API keys securely"""
    encrypted_key = os.environ[f"{exchange_name.upper()}_API_KEY_ENCRYPTED"]
    encryption_key = os.environ["ENCRYPTION_KEY"]

    fernet = Fernet(encryption_key.encode())
    return fernet.decrypt(encrypted_key.encode()).decode()


def private_exchange(secret_key: str) -> MexcPrivateExchange:
    """The key goes from the variable to the engine's processes through sealed memory, and no file."""
    return MexcPrivateExchange(api_key=get_encrypted_api_key(ExchangeName.MEXC), secret_key=secret_key)


EXCHANGE_ENDPOINTS = {
    ExchangeName.MEXC: {
        "spot": {"rest": "https://api.mexc.com/api/v3", "ws": "wss://wbs-api.mexc.com/ws"},
    }
}


def public_exchange() -> MexcPublicExchange:
    """An exchange at these addresses; certificates are always checked."""
    return MexcPublicExchange(endpoints=EXCHANGE_ENDPOINTS[ExchangeName.MEXC])


async def create_optimized_session() -> aiohttp.ClientSession:
    """Create optimized HTTP session for requests of your own (the engine's have connections of their own)"""
    connector = aiohttp.TCPConnector(
        limit=100,  # Connection pool size
        limit_per_host=50,
        keepalive_timeout=30,
    )

    timeout = aiohttp.ClientTimeout(
        total=5,  # 5 second total timeout
        connect=1,  # 1 second connection timeout
        sock_read=2,  # 2 second read timeout
    )

    return aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        raise_for_status=True,
    )
