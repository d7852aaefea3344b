"""Errors that more than one room raises or expects."""


class StoreError(RuntimeError):
    """The tracking store refused; what was computed lies in the job's folder."""
