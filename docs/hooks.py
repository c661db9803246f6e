"""Of the docs site: pages that lie elsewhere in the repository are shown here, and ranges of numbers are not broken."""

import re
from pathlib import Path


def on_page_markdown(markdown: str, config, **_) -> str:
    """A line such as `--8<-- "CHANGELOG.md"` becomes that file; its links to docs/ hold from here."""
    root = Path(config.config_file_path).parent

    def included(match: re.Match) -> str:
        return re.sub(r"\]\((?:\.\./)*docs/", "](", (root / match[1]).read_text(encoding="utf-8"))

    return re.sub(r'^--8<-- "(.*)"$', included, markdown, flags=re.MULTILINE)


def on_page_content(html: str, **_) -> str:
    """MkDocs calls this with each page: 10.5–14.5 stays on one line."""
    return re.sub(r"(?<=\d)–(?=\d)", "&#8288;–&#8288;", html)
