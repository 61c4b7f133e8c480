"""Wire format of the simulated gateio."""
