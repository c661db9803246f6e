"""Of the docs site: our docstrings as griffe reads them, with an empty line before each section.

What is raised is prose here, such as "ValueError for a folder without config.json"; griffe would drop it, so it becomes
a paragraph.
"""

import re
import textwrap

import griffe

_RAISES = re.compile(r"\nRaises:\n((?:[ ]+.*\n?)+)")


class Sections(griffe.Extension):
    """Named under `extensions` in mkdocs.yml."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        """Griffe calls this with every module, class, function and attribute."""
        if not obj.docstring:
            return
        text = re.sub(r"(?<!\n)\n(Args|Returns|Raises):\n", r"\n\n\1:\n", obj.docstring.value)
        obj.docstring.value = _RAISES.sub(lambda m: f"\n**Raises:** {textwrap.dedent(m[1])}", text)
