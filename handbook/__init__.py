"""Writes the parts of README and docs that come from the code or from recorded rows.

It is no part of the installed package.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
