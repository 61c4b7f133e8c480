"""The execution core and the simulated exchanges on one virtual clock: seconds of market in milliseconds of CPU."""
