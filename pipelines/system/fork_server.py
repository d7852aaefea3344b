"""Starts Python processes that have their libraries already: copies of a server that imported them once.

Importing TensorFlow and MLflow takes seconds, a copy of the server (`fork_main`) milliseconds. The server imports and
does nothing else, so that no thread and no TensorFlow context is copied. Where copies are not safe, a new interpreter
starts.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipelines.system import guard, interpreter, machine, runtime


class Process(Protocol):
    """A started process, as of `subprocess.Popen`."""

    pid: int

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, negative for a signal. Raises subprocess.TimeoutExpired."""
        ...


def start(
    module: str, *arguments: str, variables: Mapping[str, str], onednn: bool, cwd: Path | None = None,
    stdout: int = 1, stderr: int = 2,
) -> Process:  # fmt: skip
    """Start `python -m <module> <arguments>` in a session of its own, with the libraries loaded where that is safe.

    variables: its environment. onednn: TensorFlow's setting, which needs a server of its own. stdout, stderr: file
    descriptors. opscore's own modules are not searched in the working folder.
    """
    folder = Path.cwd() if cwd is None else cwd
    server = _server(variables, onednn=onednn)
    if server is not None:
        with contextlib.suppress(OSError):
            return server.start([module, *arguments], variables, folder, (stdout, stderr))
        _servers.pop(onednn)
    return subprocess.Popen(
        interpreter.command(module, *arguments), env=interpreter.environment(variables),
        stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, cwd=folder, start_new_session=True,
    )  # fmt: skip


def prepare(variables: Mapping[str, str], *, onednn: bool) -> None:
    """Launch the server of later processes, where copies are safe, and return at once."""
    _server(variables, onednn=onednn)


@dataclass(frozen=True)
class Server:
    """channel: each request is one message with a reply socket; open to the starter and to all copies."""

    channel: socket.socket
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def launch(cls, variables: Mapping[str, str], *, onednn: bool) -> Server:
        """Start a server with these variables. It ends when no process can reach it any more."""
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            process = subprocess.Popen(
                interpreter.command(guard.SERVER, str(its.fileno()), str(int(onednn))),
                stdin=subprocess.DEVNULL,
                env=interpreter.environment(variables) | runtime.variables(onednn=onednn, deterministic=False),
                pass_fds=[its.fileno()],
                start_new_session=True,  # Ctrl-C is for the cells, which get it from the launcher
            )
        return cls(ours, process)

    def start(
        self, command: Sequence[str], variables: Mapping[str, str], cwd: Path, outputs: tuple[int, int]
    ) -> Process:
        """Raises OSError if the server has ended or cannot copy itself."""
        reply, its = socket.socketpair()
        try:
            with its:
                socket.send_fds(self.channel, [b"start"], [its.fileno(), self.channel.fileno(), *outputs])
            # The copy's clock counts its wait for the libraries too.
            began = time.clock_gettime(time.CLOCK_BOOTTIME)
            request = {"command": command, "variables": dict(variables), "cwd": str(cwd), "requested": began}
            reply.sendall(json.dumps(request).encode() + b"\n")
            pid = receive(reply)
        except BaseException:
            # A copy that cannot give its number does not begin.
            reply.close()
            raise
        if pid is None:
            reply.close()
            raise ConnectionResetError
        return _Copy(pid=pid, reply=reply)


@dataclass
class _Copy:
    pid: int
    reply: socket.socket
    status: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        if self.status is None:
            self.reply.settimeout(timeout)
            try:
                status = receive(self.reply)
            except (TimeoutError, BlockingIOError):  # the second one where no time is left
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0) from None
            # Without an answer, the process between them was killed.
            self.status = -signal.SIGKILL if status is None else status
            self.reply.close()
        return self.status


# By oneDNN's setting. A copy has the server that it comes from.
_servers: dict[bool, Server | None] = {}


def adopt(channel: socket.socket, *, onednn: bool) -> None:
    """In a copy: later processes come from the same server."""
    _servers.clear()
    _servers[onednn] = Server(channel)


def _server(variables: Mapping[str, str], *, onednn: bool) -> Server | None:
    if onednn not in _servers:
        _servers[onednn] = Server.launch(variables, onednn=onednn) if _is_safe() else None
    return _servers[onednn]


def _is_safe() -> bool:
    """macOS forbids copies that use its frameworks, and a driver of CUDA may be in use from its loading on."""
    return sys.platform == "linux" and not machine.has_gpu_driver()


def send(to: socket.socket, number: int) -> None:
    """Send a process's number or status."""
    to.sendall(number.to_bytes(4, "big", signed=True))


def receive(reply: socket.socket) -> int | None:
    """The next number from the other side; None if the other side has ended."""
    content = reply.recv(4, socket.MSG_WAITALL)
    return int.from_bytes(content, "big", signed=True) if content else None
