"""The docking station's side: the reference client, which knows the service only by its schemas."""
