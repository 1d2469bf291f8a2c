"""The capacity model: what the fleet's day asks of the service, computed from measured costs."""
