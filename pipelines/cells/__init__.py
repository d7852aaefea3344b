"""A checked cell, how it is composed, and what goes together."""
