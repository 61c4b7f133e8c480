"""Wire format of the simulated mexc."""
