"""Wire dialect ``gateio``; importing this package loads nothing else."""
