"""Of the docs site: a range of numbers, such as 10.5–14.5, is not broken over two lines."""

import re


def on_page_content(html: str, **_) -> str:
    """MkDocs calls this with each page."""
    return re.sub(r"(?<=\d)–(?=\d)", "&#8288;–&#8288;", html)
