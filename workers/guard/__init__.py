"""Process ``guard``: lease, halt latch and fence, and what closes the positions that a lost executor has left open."""
