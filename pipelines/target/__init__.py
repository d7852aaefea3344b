"""Measuring artifacts on the machine that is to run them. Needs numpy, LiteRT and, for a store, MLflow."""
