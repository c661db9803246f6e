"""AudioCaps and SoundDescs: the official files to samples, what is refused, and shards of sounds without pictures."""

import json
import pathlib
import pickle

import pytest
from helpers import media
from helpers import official_corpora as made

from data_prep.commands import build, teach, verify
from data_prep.corpora import CORPORA, differing_counts
from save_jax.data import records

BOTH = [("audiocaps", made.audiocaps), ("sounddescs", made.sounddescs)]


def ids(splits):
    return {split: [sample.id for sample in samples] for split, samples in splits.items()}


def problem(corpus, root, *matches):
    with pytest.raises(ValueError) as caught:
        CORPORA[corpus].read(str(root))
    for match in matches:
        assert match in str(caught.value)


def sound(path: pathlib.Path, seconds: float = 0.5) -> str:
    return media.write_media(path, sound=media.tone(16000, seconds))


def test_audiocaps_captions_and_the_names_that_downloaders_give(tmp_path):
    root = made.audiocaps(tmp_path / "c")
    (one, two), (three,), (four, five) = ([i for i, _ in clips] for clips in made.AUDIOCAPS.values())
    for name in (f"{one}.wav", f"{two}_60.flac", f"Y{three}.m4a", f"{four}_999.wav"):
        (root / "AudioData" / name).touch()
    made.video(root / "VideoData" / f"{five}_570.mp4")
    splits = CORPORA["audiocaps"].read(str(root))
    assert ids(splits) == {"train": [one, two], "val": [three], "test": [four, five]}
    assert splits["train"][0].captions == [f"Sound 0, of {one}"]
    assert splits["test"][1].captions == [f"Sound {k}, of {five}" for k in range(5)]
    files = {s.id: (s.video, s.audio) for samples in splits.values() for s in samples}
    folder = str(root / "AudioData")
    assert files[one] == (None, f"{folder}/{one}.wav") and files[two] == (None, f"{folder}/{two}_60.flac")
    assert files[three] == (None, f"{folder}/Y{three}.m4a")
    assert files[four] == (None, f"{folder}/{four}.wav")  # _999 is another part; this is the path that it should have
    assert files[five] == (str(root / "VideoData" / f"{five}_570.mp4"), None)
    assert all(sample.is_sound for samples in splits.values() for sample in samples)


def test_audiocaps_that_cannot_be_used(tmp_path):
    root = made.audiocaps(tmp_path / "c")
    clip, start = made.AUDIOCAPS["train"][0]
    (root / "AudioData" / f"{clip}.wav").touch()
    (root / "AudioData" / f"{clip}_{start}.wav").touch()
    problem("audiocaps", root, f"holds 1 clips more than once; keep one file of each: '{clip}.wav and {clip}_130.wav'")
    with open(root / "Annotations" / "train.csv", "a") as file:
        file.write(f"1,{clip},7,Again\n")
    problem("audiocaps", root, f"1 YouTube ids have more than one start time: '{clip} at 130, 7'")
    path = root / "Annotations" / "val.csv"
    path.write_text(path.read_text().replace("youtube_id", "id"))
    problem("audiocaps", root, "val.csv has the columns ['audiocap_id', 'id', ", "it lacks: 'youtube_id'")
    path.unlink()
    problem("audiocaps", root, "should hold the official AudioCaps layout; it lacks", "Annotations/val.csv")


def test_sounddescs_lists_and_descriptions(tmp_path):
    root = made.sounddescs(tmp_path / "c")
    (root / "AudioData" / "07051146.wav").touch()
    splits = CORPORA["sounddescs"].read(str(root))
    assert ids(splits) == made.SOUNDDESCS
    first = splits["train"][0]
    assert first.captions == ["Clocks: 07051146, ticking."] and first.video is None and first.is_sound
    assert first.audio == str(root / "AudioData" / "07051146.wav")


class Harmful:
    def __reduce__(self):
        return print, ("this was run",)


@pytest.mark.parametrize(
    "data, match",
    [
        (pickle.dumps({"07051146": Harmful()}), "UnpicklingError: it wants builtins.print, where only texts"),
        (b"no pickle", "cannot be read as a pickle of texts"),
        (b"", "cannot be read as a pickle of texts (EOFError"),
        (pickle.dumps(["a"]), "does not have the form {id: description}"),
        (pickle.dumps({"07051146": ["a"]}), "does not have the form {id: description}; see: \"('07051146', ['a'])"),
        (pickle.dumps({"07051146": "a"}), "the train list has 1 clips without any caption in the annotations"),
    ],
)
def test_sounddescs_descriptions_that_cannot_be_used(tmp_path, capsys, data, match):
    root = made.sounddescs(tmp_path / "c")
    (root / "Annotations" / "descriptions.pkl").write_bytes(data)
    problem("sounddescs", root, match)
    assert "this was run" not in capsys.readouterr().out


@pytest.mark.parametrize("corpus, make", BOTH)
def test_a_corpus_of_sounds_is_verified_and_built(tmp_path, capsys, corpus, make):
    root, out = make(tmp_path / "c"), tmp_path / "out"
    first, second = [sample.id for sample in CORPORA[corpus].read(str(root))["train"]]
    [val] = [sample.id for sample in CORPORA[corpus].read(str(root))["val"]]
    good, gone = [sample.id for sample in CORPORA[corpus].read(str(root))["test"]]
    sound(root / "AudioData" / f"{first}.mp3")
    made.video(root / "VideoData" / f"{second}.mp4", sound=False)
    made.video(root / "VideoData" / f"{val}.mp4")
    sound(root / "AudioData" / f"{good}.flac", 7)

    command = ["--corpus", corpus, "--root", str(root)]
    assert verify.main([*command, "--sample", "1", "--spectrogram", "--list", str(tmp_path / "list.json")]) == 1
    listed = json.loads((tmp_path / "list.json").read_text())
    gaps = {
        kind: {i: text for clips in found.values() for i, text in clips.items()}
        for kind, found in listed["gaps"].items()
    }
    assert gaps["no media file"] == {gone: str(root / "AudioData" / f"{gone}.wav")}
    assert gaps["unreadable"] == {second: "no sound track"} and not gaps["no sound"] and not gaps["no teacher vectors"]
    assert listed["estimate"]["bytes"][0] > 2 * (1024 * 128 + 256 * 256)

    assert (
        build.main([*command, "--out", str(out), "--jobs", "1", "--spectrogram"]) == 1
    )  # counts are not the published
    assert build.main([*command, "--out", str(out), "--jobs", "1", "--spectrogram", "--partial"]) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["failed"] == {
        second: f"VideoData/{second}.mp4: no sound, which is what this corpus is about",
        gone: f"AudioData/{gone}.wav: no such file",
    }
    assert manifest["notes"] == {} and manifest["written"]["train"] == [first]
    test = records.ShardSource(records.split_shards(str(out), "test"))
    assert test.ids == [good, gone] and test[0].frames == [] and not test[0].failed and len(test[0].captions) in (1, 5)
    assert test[0].spectrogram.astype(float).max() > 0.8 and test[0].fbank is not None
    with_pictures = records.ShardSource(records.split_shards(str(out), "val"))[0]
    assert len(with_pictures.frames) == 1 and with_pictures.spectrogram is not None


def test_published_counts():
    def counts(corpus, **sizes):
        return differing_counts(CORPORA[corpus], {split: [None] * size for split, size in sizes.items()})

    assert counts("audiocaps", train=49838, val=495, test=975) == []
    assert counts("sounddescs", train=23085, val=4947, test=4947) == []
    assert sum(CORPORA["sounddescs"].published.values()) == 32979
    assert counts("audiocaps", train=49838, val=495, test=816) == [
        "audiocaps: the annotations list 816 clips in test, published are 975"
    ]


def test_teachers_are_not_for_sounds(tmp_path):
    root = made.sounddescs(tmp_path / "c")
    sample = CORPORA["sounddescs"].read(str(root))["train"][0]
    with pytest.raises(ValueError, match="a sound without pictures: teachers are for corpora of videos"):
        teach.Teach(None, str(tmp_path))(sample)
