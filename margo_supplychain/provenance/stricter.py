"""Where this package's verdict differs from in-toto's own, by name.

Each case has a test that shows in-toto pass and this package refuse
(tests/provenance/test_pitfalls.py); findings name theirs. docs/adr/0023-rule-engine.md
says why. Rows are those of the 26 pitfalls in the ADR.
"""

from __future__ import annotations

from typing import Final

EVERY_LINK: Final = "every-link"
"""A link that is malformed, or signed by none of its step's functionaries, is ignored
by in-toto as long as others meet the threshold. The record pins each link by digest, so
here each of them must be good."""

UNEXPECTED_LINK: Final = "unexpected-link"
"""in-toto never opens links of steps that the layout does not name."""

STEP_NAME: Final = "step-name"
"""in-toto takes the step from the file's name; here the link says its step, signed."""

ALL_AGREE: Final = "all-agree"
"""With a threshold of 1, in-toto lets authorised links of a step disagree; and it reads
one link of each functionary, whatever the other says."""

DEFAULT_DENY: Final = "default-deny"
"""What no rule consumed, in-toto allows; here it is unexplained, and refused."""

MODIFIED: Final = "modified"
"""MODIFY consumes, in in-toto, what merely has another set of digest algorithms."""

CONNECTED: Final = "connected"
"""in-toto has no notion of a step that has nothing to do with the release."""

RELEASE_PRODUCT: Final = "release-product"
"""in-toto compares the final artifact with nothing, unless an inspection does."""

REVOKED: Final = "revoked"
"""in-toto has no revocation but a new layout."""

ARTIFACT_NAME: Final = "artifact-name"
"""in-toto takes `x/../y`, absolute names and look-alikes as they are."""

DIGEST_ALGORITHM: Final = "digest-algorithm"
"""in-toto compares any digests, md5 and an empty set of them included."""

OVERRIDE: Final = "expires-override"
"""The publisher policy may shorten a layout's life; in-toto knows the file's alone."""

WORK: Final = "bounded-work"
"""More links than any pipeline has are not looked at; nor are more names of artifacts
than all rules of a chain together may look at."""

COMMON_ALGORITHMS: Final = "common-algorithms"
"""The one case in which this package is wider: an artifact with sha256 and sha512
matches the same one with sha256 alone, for what both have is equal. in-toto compares
the whole dictionaries."""
