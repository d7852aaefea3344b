"""Frozen records of measurements, and what is computed from them."""
