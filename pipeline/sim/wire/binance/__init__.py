"""Wire format of the simulated binance."""
