"""Durable files, locks and the content store."""
