"""What a page is made of: sections of notes, figures and tables."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Note:
    """A paragraph. `missing`: it stands in the place of something that is not there."""

    text: str
    missing: bool = False


@dataclass(frozen=True)
class Figure:
    """A picture with words. svg: the element; title: what it shows; alt: what is to be seen, for who cannot see it."""

    svg: str
    title: str
    caption: str


@dataclass(frozen=True)
class Figures:
    """Panels side by side where there is room."""

    panels: tuple[Figure, ...]


@dataclass(frozen=True)
class Table:
    """Cells as they are printed. text_columns: how many leading columns are text; the others are numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int = 1
    closed: bool = False


@dataclass(frozen=True)
class Verbatim:
    """Text as it is in a file, behind a click."""

    title: str
    text: str


Block = Note | Figures | Table | Verbatim


@dataclass
class Section:
    """A heading and what stands under it."""

    id: str
    title: str
    blocks: list[Block] = field(default_factory=list)
