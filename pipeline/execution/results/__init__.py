"""What operations amount to: won and lost round trips, and the one definition of every count and rate."""
