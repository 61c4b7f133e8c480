"""The demo and the live replay: simulated exchanges beside the engine, and the check of a run by their ledger."""
