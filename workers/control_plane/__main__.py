"""``python -m workers.control_plane``: the supervisor of one instance, for systemd and for demos."""

import sys

from workers.control_plane.start import main

if __name__ == "__main__":
    sys.exit(main())
