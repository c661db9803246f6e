"""Made ranks of two systems, for tests of significance."""

import numpy as np

Seeds = list[np.ndarray]


def simulated(
    rng: np.random.Generator, videos: int = 200, gain: float = 0.0, seeds: int = 1, of_seeds: float = 0.0
) -> tuple[Seeds, Seeds, np.ndarray]:
    """Ranks of two systems, one array a seed, and the video of each query.

    Videos are hard for both, and for each in its own way. `gain` makes the first one better; `of_seeds` is the
    deviation between seeds of one system, in the same unit.
    """
    video = np.repeat(np.arange(videos), rng.integers(1, 4, videos))
    difficulty = rng.normal(0, 1.5, videos)[video] + rng.normal(0, 1, len(video))

    def system(gain: float) -> Seeds:
        own = rng.normal(0, 0.7, videos)[video]
        noise = [rng.normal(0, 0.5, len(video)) + rng.normal(0, of_seeds) for _ in range(seeds)]
        return [np.maximum(1, np.exp(1.2 * (difficulty + own + n - gain) + 1)).astype(int) for n in noise]

    return system(gain), system(0), video
