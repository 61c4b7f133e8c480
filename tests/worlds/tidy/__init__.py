"""What tests of the tree's rules share."""
