"""Arguments of the form `name=value`, as on Hydra's command lines, for the commands that compose no cell."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.system.checks import nearest
from pipelines.tracking.credentials import redacted


class _Parser(argparse.ArgumentParser):
    """Takes options before, after and between the settings, which argparse alone does not."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        return self.parse_intermixed_args(args, namespace)


def parser(prog: str, description: str, defaults: Mapping[str, str | None]) -> argparse.ArgumentParser:
    """A parser that takes any number of `name=value` as `settings`; `--help` lists the names and their defaults."""
    made = _Parser(prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    listed = ", ".join(f"{name}={'' if value is None else value}" for name, value in defaults.items())
    made.add_argument("settings", nargs="*", metavar="name=value", help=listed.replace("%", "%%"))
    return made


def settings(words: Sequence[str], defaults: Mapping[str, str | None]) -> dict[str, str | None]:
    """The values of all names, those given in the place of the defaults.

    Raises ValueError with one sentence for a word that is no `name=value`, or a name that is not known.
    """
    given = dict(defaults)
    for word in words:
        name, separator, value = word.partition("=")
        if not separator or name not in defaults:
            meant = nearest(name, defaults)
            raise ValueError(
                f"arguments must be name=value with one of {', '.join(defaults)}, got {redacted(word)!r}"
                f"{f': did you mean {meant}=?' if meant else ''}"
            )
        # `mlflow run` passes what was not given as nothing.
        given[name] = value or defaults[name]
    return given
