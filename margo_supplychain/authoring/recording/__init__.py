"""What a step of a pipeline records: the files that went in and came out, and how.

`files` and `git` look at files, `run` runs a command, `links` writes down what was
found and signs it; `statements` binds documents to a release. What can't be recorded as
it is (links, names that are no text, files that change meanwhile) is an error that
names it; what was left out on purpose is written into the link
(docs/adr/0025-what-a-link-records.md).
"""
