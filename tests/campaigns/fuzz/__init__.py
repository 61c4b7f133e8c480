"""Hostile input: mutated frames, replies, files and requests for everything that reads what others have written."""
