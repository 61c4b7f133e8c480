"""Journal records and order requests prepared as bytes, with placeholders for the numbers of one entry."""
