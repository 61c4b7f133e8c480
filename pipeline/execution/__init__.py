"""Orders and what follows from them: journal, ledger, leg saga, positions, balances."""
