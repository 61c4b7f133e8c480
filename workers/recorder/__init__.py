"""The recorder process: journal and rings to SQLite and log files."""
