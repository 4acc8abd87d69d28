"""The examples on the format pages are true."""

import doctest
import re
from pathlib import Path

import pytest

import dvlite

DOCS = Path(dvlite.__file__).parent / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))


@pytest.mark.parametrize("page", PAGES)
def test_every_example_on_the_page_holds(page):
    failed, _ = doctest.testfile(str(DOCS / page), module_relative=False, verbose=False)
    assert failed == 0


@pytest.mark.parametrize("page", ["oid.md", "pointer.md", "tree.md", "pack.md", "config.md", "remote.md"])
def test_every_format_page_has_test_vectors(page):
    assert ">>> " in (DOCS / page).read_text()


@pytest.mark.parametrize("page", PAGES)
def test_pages_name_only_pages_that_exist(page):
    for topic in re.findall(r"dvlite help (\w+)", (DOCS / page).read_text()):
        assert f"{topic}.md" in PAGES


def test_the_table_of_remotes_has_every_behaviour():
    """The table is written by the suite (DVLITE_MATRIX=1); what was added to the suite since must be in it."""
    from tests.remotes.conftest import COLUMNS
    from tests.remotes.suite import RemoteSuite

    page = (DOCS / "remotes.md").read_text()
    titles = [one.__doc__ for name, one in vars(RemoteSuite).items() if name.startswith("test_")]
    assert len(titles) > 15 and all(titles)
    assert [title for title in titles if f"| {title} |" not in page] == []
    assert (
        all(f" {column} |" in page for column in COLUMNS.values())
        and "fails" not in page.partition("## What was seen")[2].partition("Servers:")[0]
    )
