"""MLflow's application as its server's workers load it, by the name `opscore` (pyproject.toml)."""

from mlflow.server.fastapi_app import app

from pipelines.system import runtime

__all__ = ["app"]

# A search for runs builds some hundred objects a run: looking for cycles among them doubles a page's time.
# But a server lives for weeks, and what is in cycles must not pile up as it may in a command.
runtime.relax_gc(after=100_000)
