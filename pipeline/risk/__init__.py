"""Limits, breakers and the gate that every intent passes before it is sent."""
