"""MLflow's server, in a process of its own: `opscore server` starts it.

MLflow takes seconds to import, so this process, and not the command, makes or migrates the tables.
"""

import os
import sys
import threading

from pipelines.tracking.schema import upgrade

STORE = "MLFLOW_BACKEND_STORE_URI"


def main() -> None:
    """Serve the database that the environment names. The arguments are those of `mlflow server`."""
    # A traceback belongs in the server's log, whose last line the command repeats.
    sys.excepthook, threading.excepthook = sys.__excepthook__, threading.__excepthook__
    from mlflow.cli import cli

    upgrade(os.environ[STORE])
    cli(["server", *sys.argv[1:]], prog_name="mlflow")


if __name__ == "__main__":
    main()
