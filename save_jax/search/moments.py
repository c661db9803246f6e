"""What a question may ask for, and what an answer is."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Moment:
    """One hit: a stretch of a file."""

    file: str  # as it is opened here
    name: str  # in the index: root and path
    start: float  # seconds
    end: float
    best: float  # second of the frame that matches most
    score: float
    why: dict[str, float]  # score lost without picture, sound or speech
    words: str  # said in that stretch
    quoted: str = ""  # the line that holds the words asked for

    def as_dict(self) -> dict:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Answer:
    """Moments, best first."""

    hits: list[Moment]
    nothing_relevant: bool  # all score below what absent things reach
    cutoff: float | None
    offline: list[str]  # roots whose files cannot be played now
    senses: tuple[str, ...]

    def as_json(self) -> object:
        rows = [hit.as_dict() for hit in self.hits]
        return {"hits": rows, "nothing_relevant": True} if self.nothing_relevant else rows


@dataclasses.dataclass(frozen=True)
class Filters:
    """Which files are asked; all of it holds before anything is ranked."""

    folder: str = ""  # path below a root, or that of a root
    after: float = 0.0  # seconds since 1970
    longer: float = 0.0  # seconds
    shorter: float = float("inf")
    language: str = ""

    def __call__(self, row: dict) -> bool:
        inside = self.folder.strip("/")
        return (
            (not inside or f"{row['file']}/".startswith(f"{inside}/") or f"{row['path']}/".startswith(f"{inside}/"))
            and row["modified"] / 1e9 >= self.after
            and self.longer <= row["duration"] <= self.shorter
            and (not self.language or row["language"] == self.language)
        )


NOTHING = Filters()
