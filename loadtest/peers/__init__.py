"""Other upload servers, measured beside this service in one run: `make compare`."""
