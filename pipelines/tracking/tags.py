"""Names of the tags with which opscore finds, watches and explains its runs.

A prefix keeps its own apart from the tags for people.
"""

from __future__ import annotations

PREFIX = "opscore."
FINGERPRINT = f"{PREFIX}fingerprint"
# The result key.
RESULT_KEY = f"{PREFIX}identity"
# The fingerprint of the cell's baseline.
BASELINE = f"{PREFIX}baseline"
# What computed it: `Plan.code`.
CODE = f"{PREFIX}code"
PROCESS = f"{PREFIX}process"
HEARTBEAT = f"{PREFIX}heartbeat"
# The folder of the cell's files, on the machine of its process.
FOLDER = f"{PREFIX}folder"
MAJORITY = f"{PREFIX}majority"
DELEGATED = f"{PREFIX}delegated"
# The version of LiteRT that measured it.
LITERT = f"{PREFIX}litert"
# Why a cell or a sweep failed, for people.
FAILURE = "failure"
# MLflow's own.
NOTE, PARENT = "mlflow.note.content", "mlflow.parentRunId"
# The machines of all training that led to the exported model.
TRAINED_ON = f"{PREFIX}trained_on"
