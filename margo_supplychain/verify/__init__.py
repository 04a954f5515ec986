"""The device's half: clock, trust store, TUF workflow, policy, results, verifier.

Its public names are exported by the root package.
"""
