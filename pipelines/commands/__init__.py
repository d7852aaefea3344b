"""The commands that people type, and the arguments they share."""
