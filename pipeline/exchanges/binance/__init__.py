"""Wire dialect ``binance``; importing this package loads nothing else."""
