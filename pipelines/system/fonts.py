"""Which installed fonts draw the names in a figure, and what stands in for characters that none of them has."""

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

# Matplotlib's own, which is always there.
DEFAULT = "DejaVu Sans"
STAND_IN = "?"


def style(families: Sequence[str]) -> dict[Any, Any]:
    """Settings of Matplotlib under which text is drawn as it is written, by the default font and then `families`."""
    # A name may hold a dollar sign.
    return {"text.parse_math": False, "font.family": [DEFAULT, *families]}


def covering(texts: Iterable[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Families of installed fonts that draw what the default one lacks, and the characters that no font draws."""
    return _covering(frozenset(character for text in texts for character in text if _is_drawn(character)))


def legible(figure: Figure, missing: frozenset[str]) -> None:
    """Replace the missing characters in all words of a figure: a font that lacks them draws boxes."""
    stand_ins = dict.fromkeys(map(ord, missing), STAND_IN)
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_text(text.get_text().translate(stand_ins))
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        # Drawing asks the formatter for the labels of the ticks again.
        formatter = axis.get_major_formatter()
        axis.set_major_formatter(_Legible(formatter, stand_ins))


class _Legible(Formatter):
    """Another formatter's labels without the missing characters."""

    def __init__(self, whole: Formatter, stand_ins: Mapping[int, str]) -> None:
        self._whole, self._stand_ins = whole, stand_ins

    def __call__(self, x: float, pos: int | None = None) -> str:
        return self._whole(x, pos).translate(self._stand_ins)

    def set_locs(self, locs: Any) -> None:
        self._whole.set_locs(locs)

    def get_offset(self) -> str:
        return self._whole.get_offset()


@cache
def _covering(characters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    own = FT2Font(font_manager.findfont(DEFAULT))
    missing = {character for character in characters if not own.get_char_index(ord(character))}
    if not missing:
        return (), frozenset()
    # As installed now: Matplotlib's own list is from the day on which it was first used.
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
    # Matplotlib draws outlines only; the last resort of Unicode has a box for each character.
    if not font.scalable or not font.num_glyphs or "Last" in font.family_name or "Color" in font.family_name:
        return set()
    return {character for character in characters if font.get_char_index(ord(character))}


def _rank(path: str, gained: set[str]) -> tuple[int, bool, bool, str]:
    """A font that draws all of a script shapes its words; of two, the upright and plain one."""
    stem = Path(path).stem
    return len(gained), "Sans" in stem, "Regular" in stem, stem


def _is_drawn(character: str) -> bool:
    """Whether a character has a glyph of its own: blanks, joiners and selectors of a variant have none."""
    return unicodedata.category(character)[0] not in "ZC" and not "\ufe00" <= character <= "\ufe0f"
