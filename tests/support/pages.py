"""The pages that users read, taken apart: fenced blocks, links, headings."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = {
    path.relative_to(REPOSITORY).as_posix(): path.read_text()
    for path in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
}
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def blocks(*languages: str) -> dict[str, str]:
    """All fenced blocks of these languages. Their names: page, language, and which of them on that page."""
    found: dict[str, str] = {}
    for page, text in PAGES.items():
        counts = Counter[str]()
        for language, content in _FENCE.findall(text):
            counts[language] += 1
            if language in languages:
                found[f"{page} {language} {counts[language]}"] = content
    return found


def links(page: str) -> list[str]:
    """Where the page's links lead, outside of code."""
    text = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", PAGES[page]))
    return _LINK.findall(text)


def anchors(text: str) -> set[str]:
    """The names of a page's headings as they appear in links."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
