"""Measurements of exported models on the device that is to run them."""
