"""Keras's download cache, and whether a download can work, found out without TensorFlow."""

import http.client
import os
import urllib.request
from pathlib import Path

TIMEOUT_S = 3


def keras_home() -> Path:
    """Keras's folder: the environment variable KERAS_HOME, or `~/.keras`.

    Keras itself ignores the variable when it downloads: its functions must be given `cache_dir`.
    """
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()


def check_writable(folder: Path) -> None:
    """Raise ValueError where Keras could not write: it would silently use /tmp/.keras, open to everyone."""
    nearest = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not os.access(nearest, os.W_OK):
        raise ValueError(
            f"Keras's folder must be writable, got {folder}: set the environment variable KERAS_HOME=<folder>"
        )


def check_answers(url: str) -> None:
    """Raise OSError or HTTPException unless `url` answers a HEAD request within 3 seconds."""
    with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT_S):
        pass


# What `check_answers` raises.
NO_ANSWER = (OSError, http.client.HTTPException)
