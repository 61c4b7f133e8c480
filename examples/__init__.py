"""Programs that use the package ``arbitrage``, as the documents show it."""
