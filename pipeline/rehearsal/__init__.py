"""Private worlds for the order path and the detection kernels: for warming up, benches and tests."""
