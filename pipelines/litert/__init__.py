"""Measurements of exported models by LiteRT, in processes of their own."""
