"""The version of this package, in its one place (the build reads it here too)."""

from typing import Final

__version__: Final = "0.1.0"
