"""Runbooks as HTML. Blocks. Nothing of a page is asked for elsewhere: no pictures, and links lead to other runbooks only."""

from __future__ import annotations

import re
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

_NAME = re.compile(r"[a-z0-9-]{1,80}")
_LINK = re.compile(r"([a-z0-9-]{1,80})\.md(#.*)?")
_PAGES = "/incidents/runbooks/"
_MAX_BYTES = 256 << 10
# Beside those of alerts.
_GUIDES = ("incident-checklist", "postmortem-template", "game-day", "routines")


class _Markdown(MarkdownIt):
    """Links to other runbooks lead to their pages here; all others are text, as they are written."""

    def normalizeLink(self, url: str) -> str:
        found = _LINK.fullmatch(url)
        return _PAGES + found[1] if found else url

    def validateLink(self, url: str) -> bool:
        return url.startswith(_PAGES)


class Runbooks:
    """`folder` None: they are not here."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        # html=False: what looks like HTML is shown as text.
        self._markdown = _Markdown("commonmark", {"html": False}).enable("table").disable("image")
        self._seen: dict[str, tuple[tuple[int, int], Markup]] = {}

    def html(self, name: str) -> Markup | None:
        """A runbook; None: there is none of this name. Raises OSError."""
        if self._folder is None or not _NAME.fullmatch(name):
            return None
        path = self._folder / f"{name}.md"
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        stamp = (status.st_mtime_ns, status.st_size)
        seen = self._seen.get(name)
        if seen is None or seen[0] != stamp:
            text = path.read_bytes()[:_MAX_BYTES].decode(errors="replace")
            seen = self._seen[name] = (stamp, self._rendered(text))
        return seen[1]

    def guides(self) -> list[str]:
        """Names of pages that belong to no alert."""
        folder = self._folder
        return [] if folder is None else [name for name in _GUIDES if (folder / f"{name}.md").is_file()]

    def _rendered(self, text: str) -> Markup:
        tokens = self._markdown.parse(text)
        for token in tokens:
            _lower(token)
            _aligned(token)
        return Markup(self._markdown.renderer.render(tokens, self._markdown.options, {}))  # noqa: S704 - escaped by the renderer


def named(path: str) -> str:
    """deploy/runbooks/model-errors.md → model-errors; "": it names none."""
    name = path.rpartition("/")[2].removesuffix(".md")
    return name if _NAME.fullmatch(name) else ""


def _lower(token: Token) -> None:
    """The page has a first heading of its own."""
    if token.type in ("heading_open", "heading_close"):
        token.tag = f"h{min(int(token.tag[1:]) + 1, 6)}"


def _aligned(token: Token) -> None:
    """Our content security policy allows no style in an attribute."""
    if token.attrs.pop("style", None) == "text-align:right":
        token.attrSet("class", "right")
