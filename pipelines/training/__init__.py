"""Training: the input pipeline, the loop, the clock."""
