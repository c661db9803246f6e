"""Makes a small corpus of real videos in the official MSR-VTT layout, so that everything can be tried without data.

    python -m data_prep.demo --out DIR --clips 900 --seed 0

The clips are synthetic, but pictures, sounds, speech, captions, transcripts and teacher vectors belong together as in
the real corpus, so a model can learn from them. DIR/demo.json records the arguments; the same command run again makes
only what is missing.
"""

import argparse
import csv
import functools
import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from data_prep import runners
from data_prep.demo_clip import media_paths, write_clip
from data_prep.demo_scenes import MIN_CLIPS, SPLITS, Scene, sample_scenes

GENERATOR_VERSION = 1  # raise it when the same arguments begin to give other files


def make_corpus(out: Path, clips: int, seed: int, jobs: int = 1) -> None:
    """Writes the corpus, or what is missing of it, in jobs processes; their number does not change a byte."""
    if jobs < 1:
        raise ValueError(f"{jobs} jobs cannot make a clip; ask for 1 or more (--jobs)")
    scenes = sample_scenes(clips, seed)
    arguments = {"clips": clips, "seed": seed, "generator_version": GENERATOR_VERSION}
    _claim(out, arguments)
    for folder in (
        "Annotations",
        "VideoData",
        "FeatureData/ImageBind/AudioFeature",
        "FeatureData/ImageBind/VideoFeature",
    ):
        (out / folder).mkdir(parents=True, exist_ok=True)
    _write_annotations(out, scenes)
    missing = [s for s in scenes if not all(path.exists() for path in media_paths(out, s).values())]
    _write_clips(out, missing, seed, jobs)
    _write_json(out / "demo.json", {"arguments": arguments, "finished": True, "counts": _counts(scenes)})
    print(f"{out}: made {len(missing)} of {clips} clips, {clips - len(missing)} were there")


def _claim(out: Path, arguments: dict[str, int]) -> None:
    """Refuses a folder that holds anything else, a real MSR-VTT above all; marks a new one as ours."""
    record = out / "demo.json"
    if record.exists():
        found = json.loads(record.read_text())["arguments"]
        if found != arguments:
            raise ValueError(
                f"{out} holds a demo corpus made with {_spell(found)}, but you ask for {_spell(arguments)}; "
                "choose another folder (--out) or delete this one"
            )
        return
    if out.exists() and any(out.iterdir()):
        raise ValueError(
            f"{out} is not empty and has no demo.json, so it is no demo corpus; choose another folder (--out)"
        )
    out.mkdir(parents=True, exist_ok=True)
    _write_json(record, {"arguments": arguments, "finished": False})


def _spell(arguments: dict[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in arguments.items())


def _write_clips(out: Path, scenes: list[Scene], seed: int, jobs: int) -> None:
    with tqdm(total=len(scenes), desc="clips", unit="clip") as bar:
        if jobs == 1:
            for scene in scenes:
                write_clip(out, scene, seed)
                bar.update()
            return
        with runners.Local(jobs, time_limit=None) as pool:
            for scene, result in zip(scenes, pool.run(functools.partial(_write, out, seed), scenes), strict=True):
                if isinstance(result, runners.Failure):
                    raise ValueError(f"{scene.video_id} could not be made: {result.reason}")
                bar.update()


def _write(out: Path, seed: int, scene: Scene) -> None:
    write_clip(out, scene, seed)


def _write_annotations(out: Path, scenes: list[Scene]) -> None:
    """The files of the official release, and two of ours: which sense a query asks for and what a clip sounds of."""
    folder = out / "Annotations"
    by_split = {split: [s for s in scenes if s.split == split] for split in SPLITS}
    captions = [(s.video_id, text) for s in scenes for _, text in s.captions]
    _write_json(
        folder / "MSRVTT_data.json",
        {
            "videos": [{"video_id": s.video_id, "split": s.split} for s in scenes],
            "sentences": [{"video_id": v, "caption": text, "sen_id": i} for i, (v, text) in enumerate(captions)],
        },
    )
    _write_csv(folder / "MSRVTT_train.9k.csv", ("video_id",), ((s.video_id,) for s in by_split["train"]))
    _write_csv(folder / "MSRVTT_val.csv", ("video_id",), ((s.video_id,) for s in by_split["validate"]))
    _write_csv(
        folder / "MSRVTT_JSFUSION_test.csv",
        ("key", "vid_key", "video_id", "sentence"),
        (
            (f"ret{i}", f"msr{s.video_id.removeprefix('video')}", s.video_id, s.captions[0][1])
            for i, s in enumerate(by_split["test"])
        ),
    )
    _write_csv(
        folder / "query_groups.csv",
        ("video_id", "sentence", "group"),
        (
            (s.video_id, text, kind)
            for split in ("validate", "test")
            for s in by_split[split]
            for kind, text in s.captions
        ),
    )
    _write_csv(folder / "clip_tags.csv", ("video_id", "tags"), ((s.video_id, s.tags) for s in scenes))
    heard = [{"key": f"{s.video_id}.wav", "text": s.transcript} for s in scenes if s.transcript]
    _write_json(out / "msrvtt10k_asr_text.json", heard)


def _write_csv(path: Path, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    os.replace(temporary, path)


def _write_json(path: Path, content: object) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _counts(scenes: list[Scene]) -> dict[str, dict[str, int]]:
    return {
        "clips": dict(Counter(s.split for s in scenes)),
        "sound": dict(sorted(Counter(s.tags for s in scenes).items())),
        "test queries": dict(sorted(Counter(s.captions[0][0] for s in scenes if s.split == "test").items())),
        "captions": {"all": sum(len(s.captions) for s in scenes)},
        "transcripts": {"all": sum(bool(s.transcript) for s in scenes)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m data_prep.demo", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the corpus; new, empty or made by this command"
    )
    parser.add_argument("--clips", type=int, default=900, help=f"at least {MIN_CLIPS}; default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same bytes; default %(default)s")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; default: one per core")
    args = parser.parse_args()
    try:
        make_corpus(args.out, args.clips, args.seed, args.jobs)
    except ValueError as error:
        if type(error) is not ValueError:  # PyAV's and json's errors are ValueErrors too, but no fault of the arguments
            raise
        parser.error(str(error))


if __name__ == "__main__":
    main()
