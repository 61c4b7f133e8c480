"""Wire dialect ``mexc``; importing this package loads nothing else."""
