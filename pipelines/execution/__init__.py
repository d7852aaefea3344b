"""A sweep and its cells, from the composed configuration to the exported model."""
