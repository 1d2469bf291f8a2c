"""What outsiders rely on: request and response bodies."""
