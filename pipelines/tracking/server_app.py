"""MLflow's application, which the workers of its server load by the name `opscore` (pyproject.toml)."""

from mlflow.server.fastapi_app import app

from pipelines.system import runtime

__all__ = ["app"]

# A search builds some hundred objects per run, and looking for cycles among them doubles its time. But a server lives
# for weeks, so its cycles must be freed now and then, unlike a command's.
runtime.relax_gc(after=100_000)
