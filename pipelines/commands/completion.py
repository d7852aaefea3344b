"""Shell completion: click's, and Hydra's for the commands that Hydra parses."""

from __future__ import annotations

from collections.abc import Sequence

from click.shell_completion import BashComplete, CompletionItem, add_completion_class

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
            if words and (word == "=" or words[-1].endswith("=")):
                words[-1] += word
            else:
                words.append(word)
        # Bash replaces only what follows the sign.
        self._kept = words[-1][: words[-1].rfind("=") + 1]
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
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from pipelines.cells.compose import CONF

    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            hydra = BashCompletion(GlobalHydra.instance().config_loader())
            return hydra._query("config", " ".join([*words, incomplete]))
    except (HydraException, OmegaConfBaseException, ValueError):
        return []
