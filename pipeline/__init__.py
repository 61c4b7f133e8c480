"""Trading: numbers, books, detection, execution, exchanges, simulation. Knows nothing of processes."""
