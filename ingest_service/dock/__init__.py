"""The reference docking-station client."""
