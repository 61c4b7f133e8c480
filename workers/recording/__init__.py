"""Recording the market: the rings, and what feeds and the detector write into theirs."""
