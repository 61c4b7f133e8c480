"""Order states, in-flight ledger, leg saga, positions, balances, journal, and the pure execution core."""
