"""The command line: one function per command in ``commands_*``.

``arb --help``, completion and refused input must be quick: importing ``workers.cli.main`` loads neither numba nor
aiohttp (a test holds it). What loads them is imported inside the command that needs it.
"""
