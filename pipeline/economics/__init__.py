"""Decision rules after an entry: hedge exits, netting, margin, price of inventory, P&L attribution. Pure functions."""
