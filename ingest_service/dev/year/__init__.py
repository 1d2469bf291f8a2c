"""A year in the life of the service: its own actions, a clock that is moved, and a judge."""
