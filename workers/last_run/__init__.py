"""What the last run of an instance left: what its journal says is not over, its mode, how it is started again."""
