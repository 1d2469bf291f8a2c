"""Traces of requests and jobs: what they are made of, and the extra that sends them off."""
