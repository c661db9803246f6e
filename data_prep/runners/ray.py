"""A pool of actors on a Ray cluster. Ray is an extra: it is imported when a runner is entered."""

import logging
import os
import pickle
from collections.abc import Callable
from typing import Any

from data_prep.runners.base import attempt, reason_of
from data_prep.runners.pool import Died, Pool


class Ray(Pool):
    """Ray actors, on the cluster at `address` (or RAY_ADDRESS), else on a Ray of this machine alone.

    `jobs=None`: one for each CPU, or for each share of `gpus`. `gpus`: of each actor; None: 1 where the cluster has
    any, else 0. Media and annotations must lie under the same paths on every machine.
    """

    def __init__(self, jobs: int | None, time_limit: float | None, gpus: float | None = 0, address: str | None = None):
        super().__init__(1 if jobs is None else jobs, time_limit)
        self._all, self._gpus, self._address, self._ours = jobs is None, gpus, address, False

    def __enter__(self) -> "Ray":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or it warns of a change in its next release
        try:
            import ray  # an extra, and slow to import
        except ImportError as error:
            raise ValueError("--runner ray needs Ray: pip install -c constraints.txt -e '.[prep,ray]'") from error
        if not ray.is_initialized():
            address = self._address or os.environ.get("RAY_ADDRESS") or "local"
            local: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
            try:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
            except ConnectionError as error:
                raise ValueError(
                    f"no Ray cluster takes us at {address} ({error}); see that it runs, and that RAY_AUTH_MODE and its "
                    "token are the same here and there"
                ) from error
            self._ours = True
        resources = ray.cluster_resources()
        gpus = resources.get("GPU", 0)
        self._gpus = min(1, gpus) if self._gpus is None else self._gpus
        if self._gpus > gpus:
            self.__exit__()
            raise ValueError(f"the Ray cluster has {gpus:g} GPUs, and each worker wants {self._gpus:g}")
        if self._all:
            self._jobs = max(1, int(gpus / self._gpus if self._gpus else resources.get("CPU", 1)))
        return self

    def __exit__(self, *_) -> None:
        import ray

        super().__exit__()
        if self._ours:
            ray.shutdown()

    @staticmethod
    def _dumps(task: Callable) -> bytes:
        from ray import cloudpickle

        # Also what is defined in a script. Ray exports it by a star, which a type checker does not follow.
        return cloudpickle.dumps(task)  # pyright: ignore[reportPrivateImportUsage]

    def _start(self, task: bytes) -> "_Actor":
        return _Actor(task, self._gpus or 0)

    def _wait(self, workers: list["_Actor"], timeout: float | None) -> list["_Actor"]:
        import ray

        ready = ray.wait([worker.answer for worker in workers], timeout=timeout)[0] if workers else []
        return [worker for worker in workers if worker.answer in ready]


class _Actor:
    def __init__(self, task: bytes, gpus: float):
        import ray

        # Half a CPU each: actors that take every CPU starve whatever else the cluster runs. SPREAD still gives each
        # machine its share.
        options = {"num_cpus": 0.5, "num_gpus": gpus, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        self._actor: Any = ray.remote(_Served).options(**options).remote(task)
        self.answer = self._actor.ready.remote()

    def gone(self) -> bool:
        return False  # only its next answer would tell

    def give(self, item: Any) -> None:
        self.answer = self._actor.work.remote(item)

    def take(self) -> Any:
        import ray
        import ray.exceptions

        try:
            return ray.get(self.answer)
        except ray.exceptions.RayError as error:  # the actor, its machine or its memory is gone
            raise Died from error

    def kill(self) -> None:
        import ray

        ray.kill(self._actor)


class _Served:
    """What an actor runs: as `_serve`."""

    def __init__(self, task: bytes):
        try:
            self._task, self._problem = pickle.loads(task), None
        except Exception as error:  # told by `ready`
            self._problem = reason_of(error)

    def ready(self) -> str | None:
        return self._problem

    def work(self, item: Any) -> Any:
        return attempt(self._task, item)
