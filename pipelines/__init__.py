"""opscore: trains, compresses and measures image classifiers, and recommends the .tflite file to deploy."""

import sys
from pathlib import Path

__version__ = "0.1.0"


def _is_command() -> bool:
    """Whether this process is one of opscore's commands, and not another program that imports a module of it."""
    words = sys.orig_argv
    started = words[words.index("-m") + 1 : words.index("-m") + 2] if "-m" in words else []
    return any(one.partition(".")[0] == "pipelines" for one in started) or Path(sys.argv[0]).name == "opscore"


if _is_command():
    # Only here: a model that is served has no more of the package beside it than it needs.
    from pipelines.system import guard

    guard.install()
