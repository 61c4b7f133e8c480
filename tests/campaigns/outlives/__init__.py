"""What outlives what: the matrix of the control plane on whole instances (``python -m tests.campaigns.outlives``)."""
