"""Wire formats of the simulated exchanges, one folder per exchange; imports no engine codec."""
