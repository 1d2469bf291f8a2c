"""HTTP in, problem documents out."""
