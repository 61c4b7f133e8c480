"""How a whole instance recovers: its times, and one unit a process."""
