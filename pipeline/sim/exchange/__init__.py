"""A simulated exchange without a wire format: matching, accounts, ledger, faults, latency."""
