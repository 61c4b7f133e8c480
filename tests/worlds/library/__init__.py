"""What tests of the Python package share."""
