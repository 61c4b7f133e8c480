"""Simulated exchanges: matching, ledger, market sources, faults, one wire dialect per exchange."""
