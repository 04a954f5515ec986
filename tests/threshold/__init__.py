"""Unit tests of the one place that counts signatures."""
