"""The command line: the only package that prints, prompts or sets an exit status."""
