"""Models, one file a family, reached through `_target_` in conf/model."""
