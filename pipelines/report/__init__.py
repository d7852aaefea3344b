"""The report on compared cells: one HTML file that needs nothing beside it, and its figures as PNG."""
