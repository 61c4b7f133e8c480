"""The demo and the live replay: simulated exchanges beside the engine, judged by their ledger."""
