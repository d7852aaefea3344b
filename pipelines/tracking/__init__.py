"""Cells and sweeps in MLflow."""
