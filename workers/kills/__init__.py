"""`arb kills`: whole instances on simulated venues that are killed, stopped and delayed, judged record by record."""
