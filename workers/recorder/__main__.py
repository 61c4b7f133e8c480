"""``python -m workers.recorder``: the recorder process, for systemd and for a debugger."""

import sys

from workers.recorder.process import main

if __name__ == "__main__":
    sys.exit(main())
