"""Scenario files and their schema: which simulated venues exist, how their market moves, what goes wrong."""
