"""A search server under load: 50 clients that ask without a pause, while 10 read films.

    python tests/bench/search_load.py LIBRARY [--minutes 1] [--clients 50] [--streams 10] [--model M]

Prints errors, p50 and p95 of a search and of a film's first byte, and the server's memory before and after. The server
is a process of its own, without the limit of searches a second, which would be measured instead.
"""

import argparse
import asyncio
import collections
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np

WORDS = [
    "a",
    "man",
    "woman",
    "dog",
    "car",
    "red",
    "blue",
    "plays",
    "guitar",
    "sings",
    "runs",
    "speaks",
    "music",
    "street",
    "kitchen",
    "water",
    "night",
    "two",
    "people",
]


def serve(library: str, model: str) -> None:
    from save_jax.search.door import open_library
    from save_jax.search.server import serving
    from save_jax.search.server.access import Access
    from save_jax.search.server.app import make_app
    from save_jax.search.server.safety import Limits

    listening = serving.listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    app = make_app(open_library(library, model), Access(port=port), Limits(1e6, 10**6, 1000))
    print(port, flush=True)
    serving.Server(app, lambda: None).run([listening])


def memory(pid: int) -> float:
    """MB that a process holds."""
    [line] = [x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS")]
    return int(line.split()[1]) / 1e3


class Load:
    """What the clients saw."""

    def __init__(self, client: httpx.AsyncClient, until: float):
        self._client, self._until = client, until
        self.searches: list[float] = []
        self.first_bytes: list[float] = []
        self.problems: collections.Counter[str] = collections.Counter()

    async def search(self, seed: int) -> None:
        rng = random.Random(seed)
        while time.monotonic() < self._until:
            begin = time.monotonic()
            try:
                answer = await self._client.get("/api/search", params={"q": " ".join(rng.sample(WORDS, 4))})
                if answer.status_code == 200:
                    self.searches.append(time.monotonic() - begin)
                else:
                    self.problems[f"search {answer.status_code}"] += 1
            except httpx.HTTPError as error:
                self.problems[f"search {type(error).__name__}"] += 1

    async def stream(self, films: list[str], seed: int) -> None:
        rng = random.Random(seed)
        while time.monotonic() < self._until:
            begin = time.monotonic()
            try:
                async with self._client.stream("GET", rng.choice(films)) as answer:
                    if answer.status_code != 200:
                        self.problems[f"film {answer.status_code}"] += 1
                    first = True
                    async for _ in answer.aiter_raw(1 << 16):
                        if first:
                            self.first_bytes.append(time.monotonic() - begin)
                        first = False
                        await asyncio.sleep(0.01)  # as a player reads
            except httpx.HTTPError as error:
                self.problems[f"film {type(error).__name__}"] += 1


async def measure(port: int, args: argparse.Namespace) -> dict:
    limits = httpx.Limits(max_connections=args.clients + args.streams)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, limits=limits) as client:
        hits = (await client.get("/api/search", params={"q": "a man", "top": 100})).json()["hits"]
        films = sorted({hit["media"] for hit in hits if hit["plays"] == "direct"})
        if not films:
            raise SystemExit("no film of this library is played as it is")
        load = Load(client, time.monotonic() + 60 * args.minutes)
        jobs = [load.search(k) for k in range(args.clients)] + [load.stream(films, k) for k in range(args.streams)]
        await asyncio.gather(*jobs)

    def spread(seconds: list[float]) -> dict:
        if not seconds:
            return {"count": 0}
        p50, p95 = np.percentile(seconds, (50, 95)) * 1000
        return {"count": len(seconds), "p50_ms": round(p50, 1), "p95_ms": round(p95, 1)}

    return {
        "problems": dict(load.problems),
        "search": spread(load.searches),
        "first_byte": spread(load.first_bytes),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("library")
    parser.add_argument("--model", default="")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--streams", type=int, default=10)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve(args.library, args.model)
    command = [sys.executable, __file__, args.library, "--serve", "--model", args.model]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None  # a pipe
        try:
            port = int(server.stdout.readline())
            httpx.get(f"http://127.0.0.1:{port}/api/search?q=a+man", timeout=120).raise_for_status()  # compiles
            before = memory(server.pid)
            found = asyncio.run(measure(port, args))
            time.sleep(1)
            memories = {"before": round(before, 1), "after": round(memory(server.pid), 1)}
            print(json.dumps(vars(args) | found | {"memory_mb": memories}, indent=2))
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
