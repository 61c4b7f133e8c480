"""What tests of the monitor share."""
