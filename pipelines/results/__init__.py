"""Frozen records of what was measured, and figures derived from them. Standard library and NumPy only."""
