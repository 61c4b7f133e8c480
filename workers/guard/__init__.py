"""Process ``guard``: lease, halt latch and fence, and the hands that close what a lost executor has left open."""
