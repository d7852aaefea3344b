"""Exported models on the machine that is to run them."""
