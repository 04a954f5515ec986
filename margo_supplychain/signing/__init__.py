"""Private keys: opened by URI, used to sign, never shown.

The device's half never imports this package; import contracts prove it.
"""
