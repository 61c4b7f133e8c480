"""Process ``monitor``: alerts to people, metrics and health on loopback, from read-only maps. See its README.md."""
