"""How a number was made, in one line: to paste beside it, and to compare with another paper's.

    save-jax|1k-A.1|g1000:3f…|q1000:9c…|ties:worst|post:none|pick:val|v0.2.0

Protocol and its version (with "!" where the evaluation departs from it), gallery and queries (number, and a digest of
their names where they are known: "?" where not), the rule for ties, what was done to scores before ranking, what picked
the checkpoint, and the version of this software.
"""

import re

from save_jax import __version__

UNKNOWN = "?"
_PART = re.compile(r"[\w.+/ -]+\Z")  # a bar, a colon or a line's end would be read as the signature's own


def line(protocol: dict, post: str = "none", picked_on: str = UNKNOWN) -> str:
    """The signature.

    Args:
        protocol: of `protocols.describe`.
        post: what changed the scores before they were ranked, such as "dual-softmax".
        picked_on: the split on which the checkpoint was picked: "val", "test", "none" where nothing was picked.
    Raises:
        ValueError for words that would break the line.
    """
    for option, word in (("post", post), ("picked_on", picked_on)):
        if word != UNKNOWN and not _PART.match(word):
            raise ValueError(f"{option}={word!r} cannot stand in a signature; use letters, digits, spaces and - + . /")
    sound = "!" if protocol["departures"] else ""
    return "|".join(
        (
            "save-jax",
            f"{protocol['short']}.{protocol['version']}{sound}",
            f"g{protocol['videos']}:{protocol['gallery'] or UNKNOWN}",
            f"q{protocol['queries']}:{protocol['texts'] or UNKNOWN}",
            "ties:worst",
            f"post:{post}",
            f"pick:{picked_on}",
            f"v{__version__}",
        )
    )


def bibtex() -> str:
    """An entry for the software that made the numbers."""
    return (
        "@software{save_jax,\n"
        "  title   = {save\\_jax: text--video retrieval that sees, hears and reads what is said},\n"
        "  author  = {{The save\\_jax authors}},\n"
        f"  version = {{{__version__}}},\n"
        "  year    = {2026},\n"
        "  note    = {Scores judged with \\texttt{save-jax judge}}\n"
        "}"
    )


def latex_row(name: str, results: dict) -> str:
    """A row of a LaTeX table, text→video and video→text, with the signature as a comment.

    Args:
        name: of the system.
        results: of `scores.evaluate_scores`.
    """
    cells = [f"{results[way][metric]:.1f}" for way in ("t2v", "v2t") for metric in ("R@1", "R@5", "R@10", "MedR")]
    head = "% system & text→video R@1 & R@5 & R@10 & MedR & video→text R@1 & R@5 & R@10 & MedR\n"
    safe = re.sub(r"([&%$#_{}])", r"\\\1", name)
    return head + f"{safe} & {' & '.join(cells)} \\\\  % {results['signature']}"
