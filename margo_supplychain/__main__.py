"""`python -m margo_supplychain` is the command `margo-supplychain`."""

from __future__ import annotations

from margo_supplychain.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
