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
