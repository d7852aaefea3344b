"""The installed fonts that draw the names in a figure, and a placeholder for characters that none of them has."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from matplotlib.ticker import Formatter

# Matplotlib brings it.
DEFAULT = "DejaVu Sans"
PLACEHOLDER = "?"


def style(families: Sequence[str]) -> dict[Any, Any]:
    """Settings of Matplotlib that draw text literally, by the default font and then `families`."""
    # A name may hold a dollar sign.
    return {"text.parse_math": False, "font.family": [DEFAULT, *families]}


def find_families(texts: Iterable[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Installed font families for the characters that the default font lacks, and the characters that no font has."""
    return _find_families(frozenset(character for text in texts for character in text if _is_drawn(character)))


def replace_missing(figure: Figure, missing: frozenset[str]) -> None:
    """Replace the missing characters in all texts of a figure: a font that lacks them draws boxes."""
    placeholders = dict.fromkeys(map(ord, missing), PLACEHOLDER)
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_text(text.get_text().translate(placeholders))
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        # The labels of ticks come from the formatter whenever the figure is drawn.
        formatter = axis.get_major_formatter()
        axis.set_major_formatter(_Replacing(formatter, placeholders))


class _Replacing(Formatter):
    """Another formatter's labels without the missing characters."""

    def __init__(self, formatter: Formatter, placeholders: Mapping[int, str]) -> None:
        self._formatter, self._placeholders = formatter, placeholders

    def __call__(self, x: float, pos: int | None = None) -> str:
        return self._formatter(x, pos).translate(self._placeholders)

    def set_locs(self, locs: Any) -> None:
        self._formatter.set_locs(locs)

    def get_offset(self) -> str:
        return self._formatter.get_offset()


@cache
def _find_families(characters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    own = FT2Font(font_manager.findfont(DEFAULT))
    missing = {character for character in characters if not own.get_char_index(ord(character))}
    if not missing:
        return (), frozenset()
    # Matplotlib's own list may be out of date: it is made when Matplotlib is first used.
    found = {path: _drawn_by(path, missing) for path in font_manager.findSystemFonts()}
    families: list[str] = []
    while missing and (path := max(found, key=lambda one: _rank(one, found[one] & missing), default=None)):
        if not found[path] & missing:
            break
        font_manager.fontManager.addfont(path)
        families.append(FT2Font(path).family_name)
        missing -= found[path]
    return tuple(families), frozenset(missing)


def _drawn_by(path: str, characters: Iterable[str]) -> set[str]:
    try:
        font = FT2Font(path)
    except (RuntimeError, OSError):
        return set()
    # Matplotlib draws outlines only, and Unicode's last resort font has a box for each character.
    if not font.scalable or not font.num_glyphs or "Last" in font.family_name or "Color" in font.family_name:
        return set()
    return {character for character in characters if font.get_char_index(ord(character))}


def _rank(path: str, gained: set[str]) -> tuple[int, bool, bool, str]:
    """Sorts fonts by the number of characters gained, then upright sans-serif ones last."""
    stem = Path(path).stem
    return len(gained), "Sans" in stem, "Regular" in stem, stem


def _is_drawn(character: str) -> bool:
    """Whether a character has a glyph of its own: blanks, joiners and variation selectors have none."""
    return unicodedata.category(character)[0] not in "ZC" and not "\ufe00" <= character <= "\ufe0f"
