"""How far two texts are apart, in words."""

import re


def spoken_words(text: str) -> list[str]:
    """Without case and signs; "Mr." is spoken as "mister"."""
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", re.sub(r"\bmr\b", "mister", text.lower().replace("’", "'")))


def edit_distance(said: list[str], heard: list[str]) -> int:
    """Words exchanged, lost and invented: Levenshtein's distance."""
    row = list(range(len(heard) + 1))
    for number, word in enumerate(said, 1):
        before, row[0] = row[0], number
        for place, other in enumerate(heard, 1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (word != other))
    return row[-1]
