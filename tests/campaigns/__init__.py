"""Campaigns: whole instances hurt for minutes or hours by seed, and judged. Each is a command of its own."""
