"""The fast path of an entry: one jitted verdict, journal records and order bytes from templates."""
