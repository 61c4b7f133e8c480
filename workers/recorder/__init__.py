"""The recorder process: journal and opportunities into the SQLite ledger, log rings into log files."""
