"""What is settled: operations that leave memory, the identities that stay of them, and checkpoints of the ledger."""
