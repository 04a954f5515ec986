"""Crashes: the harness, and what must survive it."""
