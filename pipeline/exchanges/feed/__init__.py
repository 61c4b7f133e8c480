"""The public side of one venue in a feed process: connections, subscriptions, snapshots, books."""
