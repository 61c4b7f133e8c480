"""``python -m workers.guard``: the guard process, for systemd and for a debugger."""

import sys

from workers.guard.process import main

if __name__ == "__main__":
    sys.exit(main())
