"""The tables, charts and files of ``arb report``."""
