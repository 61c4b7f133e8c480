"""``python -m tests.e2e.outlives``."""

import sys

from tests.e2e.outlives.cases import main

sys.exit(main())
