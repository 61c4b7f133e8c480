"""The truth of the venues against our ledger, and the actions that follow."""
