"""What new risk leaves of a venue's own order budget: room for the repairs that it and what is open may need.

A venue takes so many orders a second and no more. Entries that used up the last of it would leave a leg alone whose
partner failed, for as long as the window lasts. So an entry, and an exit by choice, asks for its own orders, its own
repairs and those of every operation that is open with a leg there: until an operation has ended its orders are not
proved, or not matched.
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline.execution.ledger import Ledger


def repairs_of(legs: int) -> int:
    """Orders at once that may be needed on a venue for an operation with so many legs there: a leg's partner, on
    whatever venue, has failed; of a cycle of three two coins may be left."""
    return max(1, legs - 1)


def repairs_open(ledger: Ledger, venue: str, taken_over: Callable[[str], bool]) -> int:
    """The same of all open operations; not of those that an operator has taken over, who repairs them himself."""
    found = 0
    for name, operation in ledger.open_operations.items():
        legs = sum(1 for leg in operation.record.legs if leg.venue == venue)
        if legs and not taken_over(name):
            found += repairs_of(legs)
    return found
