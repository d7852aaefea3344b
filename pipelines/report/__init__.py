"""The report on compared cells: one self-contained HTML file, and its figures as PNG files."""
