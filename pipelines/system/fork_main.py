"""The server of `fork_server`: imports the libraries once and copies itself for each requested process."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence

import numpy as np

from pipelines.system import fork_server, interpreter, runtime, stopwatch

# Third-party only: the code of opscore and of the user's own techniques is imported by each cell, as it is then.
LIBRARIES = (
    "tensorflow",
    "tf_keras",
    "tensorflow_model_optimization",
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.tracking.rest_store",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "hydra",
    "ai_edge_litert.interpreter",
)
# Chosen when TensorFlow is imported.
_FIXED = ("TF_ENABLE_ONEDNN_OPTS", "TF_USE_LEGACY_KERAS", "TF_CPP_MIN_LOG_LEVEL")


def _serve(channel: socket.socket, *, onednn: bool) -> list[str]:
    """Import the libraries, then copy this process for each request; only a copy returns, with its command."""
    # What an import makes stays: collections in between find nothing, and take a third of its time.
    gc.disable()
    with runtime.without_greetings():
        for name in LIBRARIES:
            with contextlib.suppress(ImportError):  # the copy reports it where it matters
                importlib.import_module(name)
    paths = _own_paths()
    gc.freeze()
    gc.enable()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the processes between
    while True:
        message, descriptors, *_ = socket.recv_fds(channel, 16, 4)
        if not message:
            os._exit(0)
        pid = None
        with contextlib.suppress(OSError):  # the other side sees its socket closed
            pid = os.fork()
        if pid == 0:
            channel.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return _copy(descriptors, paths, onednn=onednn)
        for descriptor in descriptors:
            os.close(descriptor)


def _copy(descriptors: Sequence[int], paths: Sequence[str], *, onednn: bool) -> list[str]:
    """In the process between: start the copy and report its status. In the copy: become the requested process."""
    reply = socket.socket(fileno=descriptors[0])
    request = json.loads(reply.makefile("r").readline())
    pid = os.fork()
    if pid:
        for descriptor in descriptors[1:]:
            os.close(descriptor)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with contextlib.suppress(OSError):
            fork_server.send(reply, status)
        os._exit(0)
    os.setsid()
    try:
        fork_server.send(reply, os.getpid())
    except OSError:
        os._exit(1)  # who asked has gone
    reply.close()
    channel = socket.socket(fileno=descriptors[1])
    channel.set_inheritable(False)
    fork_server.adopt(channel, onednn=onednn)
    for number, descriptor in enumerate(descriptors[2:], start=1):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(request["cwd"])
    fixed = {name: os.environ[name] for name in _FIXED if name in os.environ}
    os.environ.clear()
    os.environ.update(request["variables"] | fixed)
    sys.path[:] = [request["cwd"], *_paths(os.environ), *paths]
    stopwatch.count_from(request["requested"])
    tempfile.tempdir = None
    np.random.seed()
    return list(request["command"])


def _own_paths() -> list[str]:
    """Where Python looks for modules, without PYTHONPATH but for opscore itself."""
    given = _paths(os.environ)
    return [path for path in sys.path if path not in given or path == interpreter.ROOT]


def _paths(variables: Mapping[str, str]) -> list[str]:
    return [path for path in variables.get("PYTHONPATH", "").split(os.pathsep) if path]


def main() -> None:
    """The server: `python -m pipelines.system.fork_main <descriptor> <oneDNN>`."""
    channel, onednn = sys.argv[1:]
    module, *arguments = _serve(socket.socket(fileno=int(channel)), onednn=onednn == "1")
    sys.orig_argv[:] = [sys.executable, "-m", module, *arguments]
    sys.argv[:] = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
