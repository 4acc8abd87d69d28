"""What this process put into place itself, and so needs no reading to be known, and where all of a folder is ours, no listing."""

from collections.abc import Iterable
from typing import NamedTuple

from dvlite import rows
from dvlite.oid import Oid
from dvlite.rows import Files, Packed
from dvlite.tree import Entry


class Whole(NamedTuple):
    """A folder that was made with all that is in it: its entry in the tree, its subfolders, and the objects that list it."""

    entry: Entry
    subs: list[str]
    listing: list[Oid]


class Made:
    """Files by folder (in-repo), with the stats that they had then: those of a page written at once, and single ones.

    A tracked file is its own folder, and has no name there.
    """

    __slots__ = ("files", "pages", "whole")

    def __init__(self) -> None:
        self.pages: dict[str, list[Files]] = {}
        self.files: dict[str, Packed] = {}
        self.whole: dict[str, Whole] = {}

    def of(self, folder: str) -> Packed:
        """Return what was put into a folder."""
        found: Packed = {}
        for page in self.pages.get(folder, ()):
            found |= rows.split(page)
        return found | self.files.get(folder, {})

    def joined(self, folder: str) -> Files:
        """Return the files of a folder that was made as a whole, in order."""
        return rows.join_pages(self.pages.get(folder, ()))

    def spoil(self, folders: Iterable[str]) -> None:
        """Take folders, and those above them, for no longer just what the tree says."""
        for folder in folders:
            while folder:
                self.whole.pop(folder, None)
                folder = folder.rpartition("/")[0]
