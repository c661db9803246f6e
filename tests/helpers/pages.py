"""HTML pages, read strictly."""

import collections
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "input", "link", "hr"}


class Page(HTMLParser):
    """Every tag with its attributes, and the text; a tag that is not closed, or not open, is an error."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.tags, self.text, self.scripts, self._open = [], "", [], []
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list) -> None:
        assert len(dict(attrs)) == len(attrs), f"attribute twice in {tag} {attrs}"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1] == tag, f"</{tag}> closes {self._open[-3:]}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            self.scripts.append(data)
        elif not (self._open and self._open[-1] == "style"):
            self.text += data

    def all(self, tag: str, cls: str = "") -> list[dict]:
        return [a for name, a in self.tags if name == tag and (not cls or cls in (a.get("class") or "").split())]


def asks_nobody(found: Page) -> None:
    """Well formed, with ids of its own, and everything inline: no address, no handler, no frame."""
    assert found.tags[0][0] == "html"
    ids = collections.Counter(a["id"] for _, a in found.tags if "id" in a)
    assert max(ids.values()) == 1
    for tag, attributes in found.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{tag} {name}={value}"
            if name in ("src", "href"):
                assert value.startswith(("data:image/", "#")), f"{tag} {name}={value[:60]}"
    assert not found.all("link") and not found.all("iframe")
    assert "url(" not in "".join(a.get("style", "") for _, a in found.tags)
