"""Files read and embedded by the workers of a Ray cluster; the rows are those of `reading.embed_files`."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from data_prep import runners
from save_jax.search import reading
from save_jax.search.models import open_embedder
from save_jax.search.reading import Left, Rows
from save_jax.search.roots import Found
from save_jax.search.transcripts import Transcriber
from save_jax.search.windows import Cut

GROUP = 16  # files that a worker takes at once: its model embeds their windows together


@dataclasses.dataclass
class Task:
    """`Task(…)(files)` → their rows. Each worker opens the model once; its path must lead there on every machine."""

    model: str
    digest: str  # of its parameters
    cut: Cut
    speech: str = ""
    cache: str = ""
    language: str = ""

    def __post_init__(self):
        self._opened: tuple | None = None

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_opened": None}

    def __call__(self, files: Sequence[Found]) -> list[Rows | Left]:
        """Raises ValueError where the worker's model has other parameters."""
        if self._opened is None:
            embedder = open_embedder(self.model)
            if embedder.digest != self.digest:
                raise ValueError(
                    f"{self.model} holds other parameters on a worker ({embedder.digest[:12]}) than here "
                    f"({self.digest[:12]}); copy the same weights to every machine"
                )
            self._opened = embedder, Transcriber(self.speech, self.cache, self.language)
        embedder, transcriber = self._opened
        return list(reading.embed_files(files, embedder, transcriber, self.cut, 1, {}))


def embed_on(runner, task: Task) -> Callable[[Sequence[Found]], Iterator[Rows | Left]]:
    """For `indexing.update`: runs the task on a runner that was entered. A group that fails costs its files alone, and
    they are tried again by the next run."""

    def embed(files: Sequence[Found]) -> Iterator[Rows | Left]:
        groups = [files[first : first + GROUP] for first in range(0, len(files), GROUP)]
        for group, answer in zip(groups, runner.run(task, groups), strict=True):
            if isinstance(answer, runners.Failure):
                yield from (Left(found, f"{found.full}: {answer.reason}") for found in group)
            else:
                yield from answer

    return embed
