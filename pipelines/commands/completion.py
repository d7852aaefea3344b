"""Shell completion: click's, and Hydra's for the commands that Hydra parses."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from contextlib import redirect_stderr

from click.shell_completion import BashComplete, CompletionItem, add_completion_class

from pipelines.system.places import expanded, is_folder

_OPEN_ENDS = ("=", ".", "/")


@add_completion_class
class Bash(BashComplete):
    """Completion for Bash, which splits words at `=` and adds a blank even to an incomplete word."""

    source_template = BashComplete.source_template.replace("complete -o nosort", "complete -o nospace -o nosort")

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one at the cursor, and that word, as they were typed."""
        before, last = super().get_completion_args()
        words: list[str] = []
        for word in [*before, last]:
            if words and (word in ("=", ":") or words[-1].endswith(("=", ":"))):
                words[-1] += word
            else:
                words.append(word)
        # Bash replaces only what follows the sign.
        self._kept = words[-1][: max(map(words[-1].rfind, "=:")) + 1]
        return words[:-1], words[-1]

    def format_completion(self, item: CompletionItem) -> str:
        """The part of a word that Bash inserts."""
        end = "" if item.value.endswith(_OPEN_ENDS) else " "
        return f"{item.type},{item.value.removeprefix(self._kept)}{end}"


def overrides(words: Sequence[str], incomplete: str) -> list[str]:
    """Hydra's completions of an override after these words; empty where the words cannot be composed."""
    from hydra import initialize_config_dir
    from hydra._internal.core_plugins.bash_completion import BashCompletion
    from hydra.core.global_hydra import GlobalHydra

    from pipelines.cells.compose import CONF

    # Hydra splits the line at blanks again, and its parser of options writes its usage on stderr.
    line = " ".join([word for word in words if not re.search(r"\s", word)] + [incomplete])
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"), redirect_stderr(io.StringIO()):
            found = BashCompletion(GlobalHydra.instance().config_loader())._query("config", line)
    # Whatever it raises would appear in the line that is typed.
    except (Exception, SystemExit):  # noqa: BLE001
        return []
    return [f"{one}/" if _goes_on(one.partition("=")[2]) else one for one in found]


def _goes_on(value: str) -> bool:
    """Whether a value that Hydra completes as a path is a folder, into which one goes on."""
    return value.startswith(("/", ".", "~")) and not value.endswith("/") and is_folder(expanded(value))
