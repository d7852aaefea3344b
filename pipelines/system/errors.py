"""Errors that more than one package raises or handles."""


class StoreError(RuntimeError):
    """The tracking store refused. All results are still in the job's folder."""
