"""Postgres: who owns every fact."""
