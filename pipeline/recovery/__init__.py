"""Reconciliation with the venues: sweeps, proof for unknown orders, queries, funding, recoveries."""
