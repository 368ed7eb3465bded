"""Errors that are not faults."""


class OperatorError(Exception):
    """Something that whoever runs the relay has to put right. The message says what and how, in words."""
