"""Signing in: `view` the window, `words` what an error means to a person, `model` the attempt."""
