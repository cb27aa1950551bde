"""How fast it is, measured beside others: `make bench`."""
