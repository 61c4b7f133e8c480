"""Exit codes of processes and commands, in one place."""

from __future__ import annotations

EXIT_OK = 0  # done and healthy; a process: it was asked to stop, and stopped in order
EXIT_CHECK_FAILED = 1  # a command: done, but a check failed
EXIT_CRASHED = 1  # a process: an unexpected error; started again, it recovers
EXIT_USAGE = 2  # bad usage, input or configuration: starting again cannot help
EXIT_COULD_NOT_START = 3  # shared memory, a port, a venue: starting again may help
EXIT_INTERRUPTED = 130  # Ctrl-C, after an orderly stop
