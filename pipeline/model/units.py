"""How many of one unit are in another. Whole numbers, which jitted code may read as well; parts of one (ppm, bps) as
what stands for the whole."""

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
S_PER_HOUR = 3600
NS_PER_HOUR = S_PER_HOUR * NS_PER_S
NS_PER_DAY = 24 * NS_PER_HOUR

PPM = 1_000_000  # the whole, in parts per million
BPS = 10_000  # the whole, in basis points
PPM_PER_BPS = PPM // BPS
