"""Downloads into Keras's folder, and checks, without TensorFlow, of whether one can work."""

import http.client
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

from pipelines.system.places import expanded, nearest_existing

TIMEOUT_S = 3
# A download that receives no byte for this long has failed.
DOWNLOAD_TIMEOUT_S = 60


def keras_home() -> Path:
    """Keras's folder: the environment variable KERAS_HOME, or `~/.keras`.

    Keras itself ignores the variable when it downloads: its functions must be given `cache_dir`.
    """
    return expanded(os.environ.get("KERAS_HOME") or "~/.keras")


def check_writable(folder: Path) -> None:
    """Raise ValueError if Keras cannot write to `folder`: it would silently use /tmp/.keras, open to everyone."""
    if not os.access(nearest_existing(folder), os.W_OK):
        raise ValueError(
            f"Keras's folder must be writable, got {folder}: for example `export KERAS_HOME=/var/tmp/keras`"
        )


def check_reachable(url: str) -> None:
    """Raise OSError or HTTPException unless `url` answers within 3 seconds, to HEAD or else to GET."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT_S):
            pass
    except urllib.error.HTTPError as error:
        # An address that is signed for GET, or a server without HEAD.
        if error.code not in (403, 405, 501):
            raise
        with urllib.request.urlopen(url, timeout=TIMEOUT_S):
            pass


def download(url: str, path: Path, *, sha256: str | None = None, md5: str | None = None) -> Path:
    """Fetch a file to `path`, with a progress bar in a terminal; a broken download leaves nothing there.

    sha256, md5: one of the two in hexadecimal, or neither for a file whose digest is not published. Raises OSError for
    a download that fails or stalls, and ValueError for a file of another digest.
    """
    known = {"SHA-256": sha256, "MD5": md5}
    name, digest = next(((name, digest) for name, digest in known.items() if digest), ("", None))
    wanted = f"{name.lower().replace('-', '')}:{digest}" if digest else None
    import pooch

    pooch.get_logger().setLevel("WARNING")
    print(f"downloading {url} to {path}", flush=True)
    fetch = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=DOWNLOAD_TIMEOUT_S)
    try:
        pooch.retrieve(url, wanted, path.name, path.parent, downloader=fetch)
    except ValueError as error:
        raise ValueError(
            f"{url} must give the file with {name} {digest}, but gave another ({error}): "
            f"fetch it elsewhere and put it at {path}"
        ) from error
    return path


# Raised by `check_reachable`, and by `download` if the server sends nothing.
UNREACHABLE = (OSError, http.client.HTTPException)
