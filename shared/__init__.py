"""What the relay and the desktop must agree on: wire structs, domain rules, limits.

Nothing here does I/O, reads a clock or knows a framework.
"""
