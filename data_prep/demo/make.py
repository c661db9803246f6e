"""Makes the demo corpus in a folder, or what is missing of it.

`scenes` says what is in a clip, `clip` makes its media files, `annotations` writes the files of the official release.
"""

import functools
import json
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from data_prep import runners
from data_prep.demo.annotations import write_annotations
from data_prep.demo.clip import media_paths, write_clip
from data_prep.demo.scenes import Scene, sample_scenes
from data_prep.files import write_json

GENERATOR_VERSION = 3  # raise it when the same arguments begin to give other files


def make_corpus(out: Path, clips: int, seed: int, jobs: int = 1, transcripts: str = "generator") -> None:
    """Writes the corpus, or what is missing of it, in jobs processes; their number does not change a byte.

    `transcripts`: of "generator", or of "whisper", which are then left to `data_prep.transcribe`.
    """
    if jobs < 1:
        raise ValueError(f"{jobs} jobs cannot make a clip; ask for 1 or more (--jobs)")
    scenes = sample_scenes(clips, seed)
    arguments = {"clips": clips, "seed": seed, "transcripts": transcripts, "generator_version": GENERATOR_VERSION}
    _claim(out, arguments)
    for folder in (
        "Annotations",
        "VideoData",
        "FeatureData/ImageBind/AudioFeature",
        "FeatureData/ImageBind/VideoFeature",
    ):
        (out / folder).mkdir(parents=True, exist_ok=True)
    write_annotations(out, scenes, transcripts == "generator")
    missing = [s for s in scenes if not all(path.exists() for path in media_paths(out, s).values())]
    _write_clips(out, missing, seed, jobs)
    record = {"arguments": arguments, "finished": True, "counts": _counts(scenes)}
    write_json(str(out / "demo.json"), record, end="\n")
    print(f"{out}: made {len(missing)} of {clips} clips, {clips - len(missing)} were there")


def _claim(out: Path, arguments: dict[str, int | str]) -> None:
    """Refuses a folder that holds anything else, a real MSR-VTT above all; marks a new one as ours."""
    record = out / "demo.json"
    if record.exists():
        before = json.loads(record.read_text())["arguments"]
        if before != arguments:
            raise ValueError(
                f"{out} holds a demo corpus made with {_spell(before)}, but you ask for {_spell(arguments)}; "
                "choose another folder (--out) or delete this one"
            )
        return
    if out.exists() and any(out.iterdir()):
        raise ValueError(
            f"{out} is not empty and has no demo.json, so it is no demo corpus; choose another folder (--out)"
        )
    out.mkdir(parents=True, exist_ok=True)
    write_json(str(record), {"arguments": arguments, "finished": False}, end="\n")


def _spell(arguments: dict[str, int | str]) -> str:
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


def _counts(scenes: list[Scene]) -> dict[str, dict[str, int]]:
    return {
        "clips": dict(Counter(s.split for s in scenes)),
        "sound": dict(sorted(Counter(s.tags for s in scenes).items())),
        "test queries": dict(sorted(Counter(s.captions[0][0] for s in scenes if s.split == "test").items())),
        "captions": {"all": sum(len(s.captions) for s in scenes)},
        "transcripts": {"all": sum(bool(s.transcript) for s in scenes)},
    }
