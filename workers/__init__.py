"""The processes: one file each, the supervisor, and the command line."""
