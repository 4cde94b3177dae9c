"""The documents: what they refer to is there, and nobody looks for one in vain."""

from __future__ import annotations

import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?[^)]*\)|(?:href|src)=\"([^\"]+)\"")
_NAMED = re.compile(r"`([\w./-]+\.md)`")
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_PICTURES = ROOT / "docs" / "pictures"


def committed(*patterns: str) -> list[Path]:
    """The files of the repository that match, and those that are new."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    return sorted({path for line in listed.stdout.splitlines() if (path := ROOT / line).exists()})


def links(text: str) -> list[str]:
    """The addresses of links and pictures of a Markdown text, in their order."""
    return [one or other for one, other in _LINK.findall(_FENCE.sub("", text))]


def anchors(text: str) -> set[str]:
    """What a link may name of a Markdown text: its headings, as GitHub calls them."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(document: Path) -> list[str]:
    """The links of a document that lead nowhere; those to other sites are not tried."""
    found = []
    for link in links(document.read_text()):
        if re.match(r"[a-z][a-z+.-]*:", link):
            continue
        name, _, part = link.partition("#")
        path = document.parent / unquote(name) if name else document
        if not path.exists() or (part and part not in anchors(path.read_text())):
            found.append(link)
    return found


@pytest.mark.parametrize("document", committed("*.md"), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_and_picture_of_a_document_is_there(document: Path) -> None:
    assert broken(document) == []


def test_a_document_that_is_named_is_there() -> None:
    missing = [
        (str(document.relative_to(ROOT)), name)
        for document in committed("*.md")
        for name in _NAMED.findall(document.read_text())
        if not (document.parent / name).exists() and not (ROOT / name).exists()
    ]
    assert missing == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# One part\n")
    text = (
        "[a](there.md) [b](there.md#one-part) ![c](gone.svg) [d](there.md#gone) <img src=\"lost.png\">\n"
        "[e](https://example.org/x)\n```\n[f](in-code.md)\n```\n"
    )  # fmt: skip
    (tmp_path / "text.md").write_text(text)
    assert broken(tmp_path / "text.md") == ["gone.svg", "there.md#gone", "lost.png"]


def test_every_directory_of_deploy_says_what_it_is() -> None:
    directories = {path.relative_to(ROOT).parts[1] for path in committed("deploy/*/*")}
    assert {"ansible", "docker", "packer", "prometheus", "terraform"} <= directories
    without = [name for name in sorted(directories) if not (ROOT / "deploy" / name / "README.md").is_file()]
    assert without == []
    overview = (ROOT / "deploy" / "README.md").read_text()
    assert [name for name in sorted(directories) if f"({name}/README.md)" not in overview] == []


def test_every_picture_is_shown_somewhere() -> None:
    shown = {
        (document.parent / unquote(link)).resolve()
        for document in committed("*.md")
        for link in links(document.read_text())
    }
    assert [path.name for path in committed("docs/pictures/*") if path.resolve() not in shown] == []


@pytest.mark.parametrize("picture", sorted(_PICTURES.glob("*.svg")), ids=lambda path: path.name)
def test_a_drawing_is_readable_on_a_dark_page_too_and_its_text_is_text(picture: Path) -> None:
    root = ET.parse(picture).getroot()
    space = "{http://www.w3.org/2000/svg}"
    _, _, width, height = root.attrib["viewBox"].split()
    ground = root.find(f"{space}rect")
    assert ground is not None, "it has no background of its own"
    assert (ground.get("width"), ground.get("height"), ground.get("fill")) == (width, height, "#fff")
    assert root.findtext(f"{space}title"), "who can't see it learns nothing of it"
    assert len(root.findall(f".//{space}text")) > 10
