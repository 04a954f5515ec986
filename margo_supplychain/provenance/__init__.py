"""How a release was made: layouts, links and statements, judged as pure functions.

Bytes in, findings out: no clock, no files, no network, no globals, and nothing is ever
executed. What devices read is read by this package's own readers; `in_toto_models`,
which only authors import, writes what in-toto's own models accept
(docs/adr/0022-provenance.md).
"""
