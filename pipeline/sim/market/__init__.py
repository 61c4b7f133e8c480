"""The synthetic market: fair prices, makers, dislocations and their statistics."""
