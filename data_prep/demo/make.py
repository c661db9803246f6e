"""Makes the demo corpus in a folder, or what is missing of it.

`scenes` says what is in a clip, `clip` makes its media files, `annotations` writes the files of the official release.
"""

import functools
import json
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from data_prep import runners
from data_prep.demo.annotations import write_annotations, write_transcripts
from data_prep.demo.clip import media_paths, write_clip
from data_prep.demo.scenes import RELATED_SHARE, Scene, sample_scenes
from data_prep.files import write_json

GENERATOR_VERSION = 3  # raise it when the same arguments begin to give other files


def make_corpus(
    out: Path,
    clips: int,
    seed: int,
    jobs: int = 1,
    transcripts: str = "generator",
    captions: bool = True,
    related: float = RELATED_SHARE,
) -> None:
    """Writes the corpus, or what is missing of it, in jobs processes; their number does not change a byte.

    Args:
        transcripts: of "generator", or of "whisper", which are then left to `data_prep.transcribe`.
        captions: False for a plain folder of videos, with the generator's transcripts in transcripts.csv.
        related: share of the clips whose sound belongs to the picture.
    """
    if jobs < 1:
        raise ValueError(f"{jobs} jobs cannot make a clip; ask for 1 or more (--jobs)")
    scenes = sample_scenes(clips, seed, related)
    arguments = {"clips": clips, "seed": seed, "transcripts": transcripts, "generator_version": GENERATOR_VERSION}
    arguments |= {} if captions else {"captions": False}  # no key where it is as ever, as in older corpora
    arguments |= {} if related == RELATED_SHARE else {"related": related}
    _claim(out, arguments)
    paths = [media_paths(out, scene, captions) for scene in scenes]
    for folder in {path.parent for of_scene in paths for path in of_scene.values()}:
        folder.mkdir(parents=True, exist_ok=True)
    if captions:
        (out / "Annotations").mkdir(exist_ok=True)
        write_annotations(out, scenes, transcripts == "generator")
    elif transcripts == "generator":
        write_transcripts(out, scenes)
    work = [(of, scene) for of, scene in zip(paths, scenes, strict=True) if not all(p.exists() for p in of.values())]
    _write_clips(work, seed, jobs)
    record = {"arguments": arguments, "finished": True, "counts": _counts(scenes, captions)}
    write_json(str(out / "demo.json"), record, end="\n")
    print(f"{out}: made {len(work)} of {clips} clips, {clips - len(work)} were there")


def _claim(out: Path, arguments: dict[str, int | str | float]) -> None:
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


def _spell(arguments: dict[str, int | str | float]) -> str:
    return ", ".join(f"{name} {value}" for name, value in arguments.items())


def _write_clips(work: list[tuple[dict[str, Path], Scene]], seed: int, jobs: int) -> None:
    with tqdm(total=len(work), desc="clips", unit="clip") as bar:
        if jobs == 1:
            for paths, scene in work:
                write_clip(paths, scene, seed)
                bar.update()
            return
        with runners.Local(jobs, time_limit=None) as pool:
            for (_, scene), result in zip(work, pool.run(functools.partial(_write, seed), work), strict=True):
                if isinstance(result, runners.Failure):
                    raise ValueError(f"{scene.video_id} could not be made: {result.reason}")
                bar.update()


def _write(seed: int, work: tuple[dict[str, Path], Scene]) -> None:
    write_clip(*work, seed)


def _counts(scenes: list[Scene], captions: bool) -> dict[str, dict[str, int]]:
    sound = dict(sorted(Counter(s.tags for s in scenes).items()))
    heard = {"all": sum(bool(s.transcript) for s in scenes)}
    if not captions:  # a plain folder has no splits: data_prep.build --shares divides it
        return {"clips": {"all": len(scenes)}, "sound": sound, "transcripts": heard}
    return {
        "clips": dict(Counter(s.split for s in scenes)),
        "sound": sound,
        "test queries": dict(sorted(Counter(s.captions[0][0] for s in scenes if s.split == "test").items())),
        "captions": {"all": sum(len(s.captions) for s in scenes)},
        "transcripts": heard,
    }
