"""Sockets and budgets: WebSocket, REST, raw HTTP/1.1, request budgets, backoff."""
