"""Shows a finished cell in the terminal."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.system.places import CHECKOUT

if TYPE_CHECKING:
    from pipelines.execution.executor import Executed
    from pipelines.tracking.store import Store


def show(executed: Executed, store: Store) -> None:
    """Print the result, and the places of its files and its run."""
    from pipelines.results.summary import table

    print(f"\n{table(executed.result)}\n")
    if executed.files is None:
        print("reused  finished before, nothing was computed; `resume=false` runs it again")
    else:
        print(f"files   {executed.files.folder}")
    print(f"run     {store.link(executed.run_id)}")
    print(f"list    {store.list_link}")
    if not store.uri.startswith("http"):
        print(f"UI      {_ui(store)}")
    print(flush=True)


def _ui(store: Store) -> str:
    """The shell command that shows the store in MLflow's UI."""
    if not store.embedded or CHECKOUT is None:
        return f"mlflow ui --backend-store-uri {shlex.quote(store.uri)}"
    return "make ui" if Path.cwd() == CHECKOUT else f"make -C {shlex.quote(str(CHECKOUT))} ui"
