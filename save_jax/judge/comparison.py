"""Is one system better than another? Paired tests over videos, and over seeds where there are several.

Two things vary by chance: which videos were asked for, and the seed of training. The queries of one video stay
together in both tests, as they are not independent.

- **Permutation** over videos: under "equal", either system could have given either result for a video. The p-value is
  the share of exchanges whose difference is as large as the one seen. It speaks of the checkpoints compared.
- **Bootstrap** over videos: the interval of the difference.
- **Several seeds:** the variance over videos and the one over seeds are added (a two-way random-effects model), and
  the difference is held against Student's t (Welch–Satterthwaite). It speaks of the methods. The part of the seeds'
  variance that comes from single videos is already in the first one, and taken off. A side with one seed is taken to
  vary as the other one's do. With fewer than
  three seeds a side, only large differences can be established (docs/judge.md).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from save_jax.judge.metrics import CUTOFFS, SUMMED

METRICS = (*(f"R@{k}" for k in CUTOFFS), "SumR", "MRR")
RESAMPLES = 10_000
LEVEL = 0.05
_FEW = 4  # degrees of freedom of seeds
FEWEST = 5  # videos, below which nothing is told apart
_PIECE = 1 << 22  # numbers drawn at once


@dataclasses.dataclass(frozen=True)
class Difference:
    """`first` minus `second`, in points of the metric."""

    metric: str
    value: float
    interval: tuple[float, float]  # 95 %
    p: float
    seeds: tuple[int, int]
    deviation_videos: float  # standard deviation of the difference over other videos
    deviation_seeds: float | None  # over other seeds; None where both sides have one
    p_corrected: float | None = None  # for the number of comparisons (`corrected`)

    @property
    def established(self) -> bool:
        """Whether the difference is more than chance gives in 5 % of cases, after correction."""
        return (self.p if self.p_corrected is None else self.p_corrected) < LEVEL

    def __str__(self) -> str:
        p = self.p if self.p_corrected is None else self.p_corrected
        verdict = "established" if self.established else "not established"
        value, low, high = (f"{x:+.3f}" if self.metric == "MRR" else f"{x:+.1f}" for x in (self.value, *self.interval))
        return f"{self.metric} {value} [{low}, {high}], p = {p:.2g}: {verdict}"


def points(ranks: np.ndarray, metric: str) -> np.ndarray:
    """What each query adds to a metric, before the mean: float [queries]. Raises ValueError for an unknown metric."""
    if metric == "SumR":
        return 100.0 * np.sum([ranks <= k for k in SUMMED], axis=0)
    if metric == "MRR":
        return 1 / ranks
    if metric not in METRICS:
        raise ValueError(f"metric {metric!r} is no mean over queries; choose one of {', '.join(METRICS)}")
    return 100.0 * (ranks <= int(metric[2:]))


def compare(
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
    query_to_video: np.ndarray,
    metric: str = "SumR",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Two systems on the same queries.

    Args:
        first, second: ranks, int [queries], of every seed of each system.
        query_to_video: int [queries].
        metric: one of `METRICS`.
        resamples: of permutation and bootstrap.
        seed: of the resampling.
    Raises:
        ValueError where ranks are not those of the same queries.
    """
    for ranks in (*first, *second):
        if len(ranks) != len(query_to_video):
            raise ValueError(
                f"systems have {len(ranks)} and {len(query_to_video)} queries; compare them on the same ones"
            )
    video = np.unique(query_to_video, return_inverse=True)[1]
    number = np.bincount(video).astype(float)  # queries of each video
    # float [seeds, videos]: sums over the queries of each video.
    sums = [np.stack([np.bincount(video, points(r, metric)) for r in ranks]) for ranks in (first, second)]
    difference = sums[0].mean(axis=0) - sums[1].mean(axis=0)
    value = float(difference.sum() / number.sum())
    rng = np.random.default_rng(seed)
    drawn = _bootstrap(difference, number, resamples, rng)
    deviation = float(drawn.std()) * (len(number) / max(1, len(number) - 1)) ** 0.5
    seeds = (len(first), len(second))
    low, high = (float(edge) for edge in np.percentile(drawn, [2.5, 97.5]))
    if len(number) < FEWEST:
        return Difference(metric, value, (low, high), 1.0, seeds, deviation, None)
    if max(seeds) == 1:
        p = _permutation(difference, resamples, rng)
        return Difference(metric, value, (low, high), p, seeds, deviation, None)
    # Of each side with several seeds: the variance over them, and the degrees of freedom it is known with. One seed is
    # taken to vary as the other system's do.
    several = [side for side in sums if len(side) > 1]
    freedom = [len(side) - 1 for side in several]
    shares = [1 / len(side) for side in several] if len(several) == 2 else [sum(1 / n for n in seeds)]
    of_seeds = [share * _variance_of_seeds(side, number) for share, side in zip(shares, several, strict=True)]
    total = deviation**2 + sum(of_seeds)
    if total == 0:  # all videos and seeds differ by the same
        return Difference(metric, value, (low, high), _permutation(difference, resamples, rng), seeds, 0.0, 0.0)
    known = deviation**4 / (len(number) - 1) + sum(v**2 / f for v, f in zip(of_seeds, freedom, strict=True))
    # Few seeds say too little of their spread for the approximation: all counts as known no better than that.
    degrees = float(sum(freedom)) if sum(freedom) < _FEW else total**2 / known
    student = np.abs(rng.standard_t(degrees, 20 * resamples))
    half = float(np.percentile(student, 95)) * total**0.5
    p = float((1 + (student >= abs(value) / total**0.5).sum()) / (1 + len(student)))
    return Difference(metric, value, (value - half, value + half), p, seeds, deviation, sum(of_seeds) ** 0.5)


def corrected(differences: Sequence[Difference]) -> list[Difference]:
    """The same, with p-values for all of them being asked at once (Holm's step-down)."""
    order = np.argsort([d.p for d in differences], kind="stable")
    found, highest = list(differences), 0.0
    for place, number in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - place) * differences[number].p))
        found[number] = dataclasses.replace(differences[number], p_corrected=highest)
    return found


def _pieces(resamples: int, videos: int) -> list[int]:
    size = max(1, _PIECE // videos)
    return [min(size, resamples - at) for at in range(0, resamples, size)]


def _permutation(difference: np.ndarray, resamples: int, rng: np.random.Generator) -> float:
    moved = difference[difference != 0]
    if not len(moved):
        return 1.0
    seen, as_large = abs(moved.sum()), 0
    for count in _pieces(resamples, len(moved)):
        signs = rng.integers(0, 2, (count, len(moved)), dtype=np.int8)
        exchanged = np.abs(2 * (signs.astype(np.float32) @ moved.astype(np.float32)) - moved.sum())
        as_large += int((exchanged >= seen * (1 - 1e-6)).sum())  # equal sums differ by their rounding
    return (1 + as_large) / (1 + resamples)


def _bootstrap(difference: np.ndarray, number: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Differences of the metric for other draws of as many videos: float [resamples]."""
    videos, drawn = len(number), []
    for count in _pieces(resamples, videos):
        weights = rng.multinomial(videos, np.full(videos, 1 / videos), count)
        drawn.append(weights @ difference / (weights @ number))
    return np.concatenate(drawn)


def _variance_of_seeds(sums: np.ndarray, number: np.ndarray) -> float:
    """Of one system over seeds, [seeds, videos], without what single videos add to it; 0 at least."""
    seeds, videos = sums.shape
    of_seed = sums.sum(axis=1) / number.sum()
    # What is left of a video's result when its mean and the seed's are taken away.
    rest = sums - sums.mean(axis=0) - (of_seed - of_seed.mean())[:, None] * number
    single = (rest**2).sum() / ((seeds - 1) * (videos - 1)) * videos / number.sum() ** 2
    return max(0.0, float(of_seed.var(ddof=1) - single))
