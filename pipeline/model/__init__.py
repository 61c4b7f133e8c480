"""Definitions of the whole pipeline: enums, errors, structs, fixed point, instruments, configuration, clock."""
