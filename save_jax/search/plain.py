"""Text as words are compared: without case, accents and punctuation, whatever form of Unicode it came in."""

import re
import unicodedata


def plain(text: str) -> str:
    """Folded words with one space between them: "Le Café, STRASSE" → "le cafe strasse"."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    bare = unicodedata.normalize("NFC", "".join(c for c in folded if not unicodedata.combining(c)))
    return " ".join(re.findall(r"\w+", bare))
