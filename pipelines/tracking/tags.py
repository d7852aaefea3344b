"""Names of the tags with which opscore finds and watches its runs. A prefix keeps them apart from the tags for people.

Runs that older versions recorded have the same tags without the prefix.
"""

from __future__ import annotations

from collections.abc import Mapping

PREFIX = "opscore."
FINGERPRINT = f"{PREFIX}fingerprint"
# The result key.
RESULT_KEY = f"{PREFIX}identity"
# The fingerprint of the cell's baseline.
BASELINE = f"{PREFIX}baseline"
PROCESS = f"{PREFIX}process"
HEARTBEAT = f"{PREFIX}heartbeat"
# The folder of the cell's files, on the machine of its process.
FOLDER = f"{PREFIX}folder"
MAJORITY = f"{PREFIX}majority"
DELEGATED = f"{PREFIX}delegated"
# The machines of all training that led to the exported model.
TRAINED_ON = f"{PREFIX}trained_on"


def read(tags: Mapping[str, str], name: str) -> str:
    """The value of a tag, also of an older run; empty where the run has none."""
    return tags.get(name) or tags.get(name.removeprefix(PREFIX), "")


def filters(condition: str) -> tuple[str, ...]:
    """A filter of MLflow's for the runs of this version and, if it differs, the one for older runs.

    MLflow's filters have no `or`. condition: with the names of this version in backticks.
    """
    return tuple(dict.fromkeys((condition, condition.replace(f"`{PREFIX}", "`"))))
