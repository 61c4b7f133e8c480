"""``python -m workers.executor``: the executor process, for systemd and for a debugger."""

import sys

from workers.executor.process import main

if __name__ == "__main__":
    sys.exit(main())
