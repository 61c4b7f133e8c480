"""``python -m tests.campaigns.outlives``."""

import sys

from tests.campaigns.outlives.cases import main

sys.exit(main())
