"""Libraries that run exported models: each file defines its own, and nothing else names it."""
