"""Open hedges: when and how they are left, by the rule, by an operator, and when margin runs short."""
