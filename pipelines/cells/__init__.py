"""Checked cells: composition, plan and compatibility."""
