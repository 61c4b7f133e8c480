"""``python -m workers.monitor``: the monitor process, for systemd and for a debugger."""

import sys

from workers.monitor.process import main

if __name__ == "__main__":
    sys.exit(main())
