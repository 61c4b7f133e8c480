"""Level-2 books: the jitted book and the sequencer that admits updates to it."""
