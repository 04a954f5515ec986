"""Tests; what they share is imported from `tests.…`."""
