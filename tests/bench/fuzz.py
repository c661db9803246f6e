"""Thousands of damaged files through the whole build, and what became of them.

    python tests/bench/fuzz.py --files 5000 --seed 1

Exits with 1 if a file is lost or counted twice, or a shard does not verify. Lists the reasons that are no plain
refusal: workers that died, clips over the time limit, errors of an unexpected kind.
"""

import argparse
import collections
import pathlib
import re
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from helpers import fuzzing

from data_prep import runners
from data_prep.commands import build
from save_jax.data import records


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    runners.add_arguments(parser)
    parser.set_defaults(time_limit=20.0)
    args = parser.parse_args()
    settings = {"corpus": "fuzz", "image_size": 32, "max_frames": 4, "frames": "jpeg"}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        corpus = fuzzing.make_corpus(folder, args.files, args.seed)
        result = build.build(corpus, name, str(folder / "out"), settings, 128, runners.from_arguments(args))
        found = collections.Counter()
        for split in corpus.read(name):
            for path in records.split_shards(str(folder / "out"), split):
                records.verify_shard(path)
                found.update(records.read_index(path)["ids"])
    found.update(clip_id for clip_id in result["failed"] if clip_id not in found)
    wrong = [clip_id for clip_id in {f"clip{k}" for k in range(args.files)} | set(found) if found[clip_id] != 1]
    reasons = [*result["failed"].values(), *(note for notes in result["notes"].values() for note in notes)]
    kinds = collections.Counter(re.sub(r"[\d.]+|/\S+", "…", re.split(r"[('\"{]", text)[0])[:90] for text in reasons)
    print(
        f"{args.files} files: {len(result['failed'])} failed, {len(result['notes'])} kept with notes, {len(wrong)} lost"
    )
    for kind, count in kinds.most_common():
        print(f"{count:6}  {kind}")
    odd = {i: r for i, r in result["failed"].items() if "worker process died" in r or "limit of" in r or "Error:" in r}
    print("\n".join(f"{clip_id}: {reason}" for clip_id, reason in odd.items()) or "no deaths, overruns or odd errors")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
