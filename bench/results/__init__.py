"""What the figures of a run say: beside its goals, beside another run."""
