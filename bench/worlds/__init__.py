"""What benches run in: markets and servers of their own."""
