"""Seeded fault schedules for core and simulated exchanges on one virtual clock, judged record by record."""
