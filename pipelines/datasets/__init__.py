"""Datasets, one file each, reached through `_target_` in conf/dataset."""
