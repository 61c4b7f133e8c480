"""Independent clients (ccxt, ccxt.pro, gate-api) against the simulated venues, changed in nothing but the URL."""
