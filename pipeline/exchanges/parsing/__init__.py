"""Bytes to values: the jitted JSON scanner, the reference decoder, checked decoding of venue JSON."""
