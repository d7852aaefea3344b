"""Measuring an artifact on disk. Nothing here imports TensorFlow."""
