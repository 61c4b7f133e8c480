"""What outlives what: the matrix of the control plane on whole instances (``python -m tests.e2e.outlives``)."""
