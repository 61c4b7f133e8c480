"""From nothing to a running instance: what venues share, limits from capital, the written configuration, its checks."""
