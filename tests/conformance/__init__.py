"""The conformance client as others drive it: a program, a directory, a web server."""
