"""The commands in markdown pages: each code block that a shell would take, with what a test may do with it.

A block is indented by four blanks, or fenced as `bash`. Before it may stand a mark, which no reader sees:

    <!-- test: check only, <why> -->                   its commands are looked at but not run
    <!-- test: check only from here on, <why> -->      so are those of all blocks that follow

A fenced block whose first line is `# <path>` is a file that the reader is to write.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MARK = re.compile(r"<!-- test: (?P<what>check only(?P<rest> from here on)?), (?P<why>[^>]+) -->")
ANY_MARK = re.compile(r"<!--\s*test\b")
# What a command begins with; the first line of any other block is output, Python or yaml.
PROGRAMS = ("python", "opscore", "mlflow", "make", "pip", "pre-commit", "curl", "ray", "unzip")
_COMMAND = re.compile(rf"({'|'.join(PROGRAMS)}|export|\.|[A-Z_]+=\S+|\w+\(\)) ?")
_FILE = re.compile(r"^```\w+\n# (\S+/\S+\.\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# In the place of a program: it keeps its words and says that all went well.
_STANDIN = '{name}() {{ {{ printf "%s\\0" {name} "$@"; printf "\\n\\0"; }} >> "$COMMANDS"; }}'


@dataclass(frozen=True, kw_only=True)
class Block:
    """Commands on a page. line: of the first, from 1. runs: whether a test may run them."""

    page: str
    line: int
    text: str
    runs: bool

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str, text: str) -> list[Block]:
    """The blocks of commands of a page. Raises ValueError for a mark that is none."""
    found = []
    check_only = rest = False
    for line, text_or_mark in _pieces(text):
        mark = MARK.fullmatch(text_or_mark.strip())
        if mark:
            check_only, rest = True, rest or bool(mark["rest"])
        elif ANY_MARK.match(text_or_mark):
            raise ValueError(f"{page}:{line}: a mark must be `<!-- test: check only, <why> -->`, got {text_or_mark!r}")
        elif _COMMAND.match(text_or_mark):
            found.append(Block(page=page, line=line, text=text_or_mark, runs=not (check_only or rest)))
            check_only = False
    return found


def files(text: str) -> dict[str, str]:
    """The files that a page has the reader write, by path."""
    return {path: content for path, content in _FILE.findall(text)}


def write_files(text: str, folder: Path) -> None:
    """Write a page's files below `folder`."""
    for path, content in files(text).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """Marks and code blocks with the number of their first line."""
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        line, first = lines[number], number
        if ANY_MARK.match(line):
            yield number + 1, line
        elif line.startswith("```"):
            number = next(at for at in range(number + 1, len(lines)) if lines[at].startswith("```"))
            if line.startswith("```bash"):
                yield first + 2, "\n".join(lines[first + 1 : number]) + "\n"
        elif line.startswith("    ") and (number == 0 or not lines[number - 1].strip()):
            while number + 1 < len(lines) and lines[number + 1].startswith("    "):
                number += 1
            yield first + 1, "\n".join(one[4:] for one in lines[first : number + 1]) + "\n"
        number += 1


def commands(block: Block, folder: Path) -> list[list[str]]:
    """The words of each command as bash takes them apart, without running any. Raises ValueError where it cannot."""
    record = folder / "commands"
    record.write_bytes(b"")
    standins = "\n".join(_STANDIN.format(name=name) for name in PROGRAMS)
    done = subprocess.run(
        ["bash", "-euc", f"{standins}\n.() {{ :; }}\n{block.text}"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "COMMANDS": str(record)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ValueError(f"{block}: bash says {done.stderr.strip()}")
    words = record.read_bytes().decode().split("\0")[:-1]
    found: list[list[str]] = [[]]
    for word in words:
        if word == "\n":
            found.append([])
        else:
            found[-1].append(word)
    return found[:-1]
