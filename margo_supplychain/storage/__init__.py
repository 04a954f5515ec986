"""Durable files, locks, and content by digest."""
