"""Recorded cells compared: seeds averaged, intervals, ties, Pareto front, sensitivity. Pure."""
