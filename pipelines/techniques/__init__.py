"""Optimization techniques, one file each, reached through `_target_` in conf/technique."""
