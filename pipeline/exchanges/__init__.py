"""Wire dialects of exchanges (sans-I/O) and the transports that carry them."""
