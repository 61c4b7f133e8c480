"""What every dialect must show: golden frames, sequence rules, a feed and orders against its simulated venue."""
