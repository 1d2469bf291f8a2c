"""A folder for PYTHONPATH; nothing imports it by this name but its test."""
