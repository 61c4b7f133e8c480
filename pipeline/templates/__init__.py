"""Texts with fields to fill in: journal records and order requests prepared before the numbers are known."""
