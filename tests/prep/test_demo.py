"""The demo corpus: same seed, same bytes; real media files; promised proportions; senses that belong together."""

import csv
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers import hub as hubs
from helpers.words import edit_distance, spoken_words
from PIL import Image

av = pytest.importorskip("av")
pytest.importorskip("espeakng_loader")

from data_prep.corpora import CORPORA  # noqa: E402
from data_prep.demo import __main__ as demo_command  # noqa: E402
from data_prep.demo import clip as demo_clip  # noqa: E402
from data_prep.demo import pictures as demo_pictures  # noqa: E402
from data_prep.demo import scenes as demo_scenes  # noqa: E402
from data_prep.demo import sounds as demo_sounds  # noqa: E402
from data_prep.demo.captions import KINDS, MOTIONS, PLACES  # noqa: E402
from data_prep.demo.clip import media_paths, mix  # noqa: E402
from data_prep.demo.make import make_corpus  # noqa: E402
from data_prep.demo.scenes import (  # noqa: E402
    BELONGING,
    COLOURS,
    EVENTS,
    NO_TRACK,
    OBJECTS,
    RELATED,
    SILENT,
    Scene,
    generator,
    sample_scenes,
)
from data_prep.demo.speech import SPEECH_RATE, speak  # noqa: E402
from data_prep.demo.topics import TOPICS  # noqa: E402

CLIPS, SEED = 24, 3


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "one_job"
    make_corpus(out, CLIPS, SEED, jobs=1)
    return out


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return sample_scenes(900, 0)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_number_of_jobs_changes_no_byte(corpus, tmp_path):
    make_corpus(tmp_path / "two_jobs", CLIPS, SEED, jobs=2)
    one, two = contents(corpus), contents(tmp_path / "two_jobs")
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []


def test_speech_does_not_depend_on_what_was_said_before():
    sentence = TOPICS[0].sentences[0]
    alone = speak(sentence, "en-us+f3", 180)
    speak(TOPICS[1].sentences[0], "en-gb-scotland", 210)
    np.testing.assert_array_equal(speak(sentence, "en-us+f3", 180), alone)
    assert len(speak(sentence, "en-us+f3", 240)) < len(alone)
    with pytest.raises(ValueError, match="no voice 'klingon-warrior'"):
        speak(sentence, "klingon-warrior", 180)


def test_other_seed_gives_other_scenes():
    one, other = sample_scenes(CLIPS, SEED), sample_scenes(CLIPS, SEED + 1)
    assert [s.captions for s in one] != [s.captions for s in other]
    assert not np.allclose(one[0].teacher_video, other[0].teacher_video)


def test_videos_are_what_the_scenes_promise(corpus):
    for scene in sample_scenes(CLIPS, SEED):
        with av.open(str(media_paths(corpus, scene)["video"])) as container:
            video = container.streams.video[0]
            assert video.codec_context.name == "h264"
            assert (video.width, video.height) == scene.size
            assert video.average_rate == scene.frame_rate
            assert 2.9 < float(video.duration * video.time_base) < 5.7
            audio = container.streams.audio
            assert bool(audio) == (scene.bed != NO_TRACK)
            if audio:
                assert audio[0].codec_context.name == "aac"
                assert (audio[0].rate, audio[0].layout.name) == (scene.audio_rate, scene.audio_layout)
            frames = {"video": 0, "audio": 0}
            loudest = 0.0
            for frame in container.decode():
                if isinstance(frame, av.VideoFrame):
                    frames["video"] += 1
                else:
                    frames["audio"] += frame.samples
                    loudest = max(loudest, float(np.abs(frame.to_ndarray()).max()))
        assert frames["video"] == scene.frames
        if scene.bed != NO_TRACK:
            assert abs(frames["audio"] / scene.audio_rate - scene.frames / scene.frame_rate) < 0.15
            assert (loudest > 0.05) == (scene.bed != SILENT)


def test_files_follow_the_official_layout(corpus):
    annotations = corpus / "Annotations"
    data = json.loads((annotations / "MSRVTT_data.json").read_text())
    split_of = {video["video_id"]: video["split"] for video in data["videos"]}
    assert list(split_of) == [f"video{i}" for i in range(CLIPS)]
    for split, file in (
        ("train", "MSRVTT_train.9k.csv"),
        ("validate", "MSRVTT_val.csv"),
        ("test", "MSRVTT_JSFUSION_test.csv"),
    ):
        named = [row["video_id"] for row in rows(annotations / file)]
        assert named and named == [v for v, s in split_of.items() if s == split]
    captions = Counter(sentence["video_id"] for sentence in data["sentences"])
    assert all(captions[v] == (1 if s == "test" else demo_scenes.CAPTIONS_PER_CLIP) for v, s in split_of.items())
    known = {(sentence["video_id"], sentence["caption"]) for sentence in data["sentences"]}
    queries = rows(annotations / "MSRVTT_JSFUSION_test.csv")
    assert {(row["video_id"], row["sentence"]) for row in queries} <= known
    grouped = {(row["video_id"], row["sentence"]) for row in rows(annotations / "query_groups.csv")}
    assert grouped == {(v, c) for v, c in known if split_of[v] != "train"}
    tags = {row["video_id"]: row["tags"].split() for row in rows(annotations / "clip_tags.csv")}
    assert tags.keys() == split_of.keys()
    features = corpus / "FeatureData" / "ImageBind"
    for video_id, tag in tags.items():
        assert (corpus / "VideoData" / f"{video_id}.mp4").exists()
        vector = np.load(features / "VideoFeature" / f"{video_id}.npy")
        assert vector.shape == (1024,) and vector.dtype == np.float32
        assert (features / "AudioFeature" / f"{video_id}.npy").exists() == (NO_TRACK not in tag)
    heard = json.loads((corpus / "msrvtt10k_asr_text.json").read_text())
    assert {v for v, tag in tags.items() if "speech" in tag} <= {line["key"].removesuffix(".wav") for line in heard}


def test_what_is_spoken_is_written_down(corpus):
    spoken = {row["video_id"]: row for row in rows(corpus / "Annotations" / "spoken.csv")}
    scenes = {s.video_id: s for s in sample_scenes(CLIPS, SEED) if s.sentence}
    assert {v: row["sentence"] for v, row in spoken.items()} == {v: s.sentence for v, s in scenes.items()}
    assert {v: row["voice"] for v, row in spoken.items()} == {v: s.voice for v, s in scenes.items()}


def test_transcripts_left_to_whisper_are_not_written(tmp_path):
    make_corpus(tmp_path, 20, SEED, transcripts="whisper")
    assert not (tmp_path / "msrvtt10k_asr_text.json").exists()
    with pytest.raises(ValueError, match=r"transcripts whisper.*but you ask for.*transcripts generator"):
        make_corpus(tmp_path, 20, SEED)


@pytest.mark.parametrize(
    ("model", "message"), [("parts", "it has no model.bin"), ("tiny.en", "cannot be fetched .*run hf download")]
)
def test_a_recogniser_that_cannot_hear_is_told_before_clips_are_made(tmp_path, monkeypatch, capsys, model, message):
    pytest.importorskip("faster_whisper")
    hubs.ask(monkeypatch, "http://127.0.0.1:9", tmp_path / "hub")  # nobody is there
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts").mkdir()
    with pytest.raises(SystemExit):
        demo_command.main(["--out", "demo", "--clips", "20", "--transcripts", "whisper", "--model", model])
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "demo").exists()


def test_same_command_makes_only_what_is_missing(corpus, capsys):
    before = contents(corpus)
    (corpus / "VideoData" / "video5.mp4").unlink()
    make_corpus(corpus, CLIPS, SEED)
    assert "made 1 of 24 clips, 23 were there" in capsys.readouterr().out
    assert contents(corpus) == before


def test_without_captions_it_is_a_folder_of_the_same_videos(corpus, tmp_path, capsys):
    arguments = ["--out", str(tmp_path / "plain"), "--clips", str(CLIPS), "--seed", str(SEED), "--jobs", "1"]
    assert demo_command.main([*arguments, "--no-captions"]) == 0
    assert json.loads((tmp_path / "plain" / "demo.json").read_text())["counts"]["clips"] == {"all": CLIPS}
    splits = CORPORA["folder"].read(str(tmp_path / "plain"), shares=(0.6, 0.2, 0.2))
    samples = [sample for split in splits.values() for sample in split]
    assert len(samples) == CLIPS and splits["train"] and not any(sample.captions for sample in samples)
    said = {f"{s.video_id}.mp4": s.transcript or "" for s in sample_scenes(CLIPS, SEED)}
    assert {sample.id: sample.transcript for sample in samples} == said and any(said.values())
    for name in ("video0.mp4", "video7.mp4"):
        assert (tmp_path / "plain" / name).read_bytes() == (corpus / "VideoData" / name).read_bytes()
    with pytest.raises(SystemExit):
        demo_command.main(arguments)
    assert "captions False, but you ask for" in capsys.readouterr().err


def test_every_sound_may_belong_to_its_picture():
    scenes = sample_scenes(100, 0, related=1)
    assert {scene.bed for scene in scenes} == {"related"} and all(scene.event for scene in scenes)
    assert Counter(s.bed for s in sample_scenes(900, 0, related=0))["related"] == 0
    with pytest.raises(ValueError, match=r"1\.5 is no share; choose one from 0 to 1 \(--related\)"):
        sample_scenes(100, 0, related=1.5)


def test_errors_name_both_sides(corpus, tmp_path):
    with pytest.raises(ValueError, match=r"clips 24, seed 3, .*but you ask for clips 25, seed 3"):
        make_corpus(corpus, CLIPS + 1, SEED)
    with pytest.raises(ValueError, match=r"19 clips are too few.*at least 20"):
        make_corpus(tmp_path / "new", 19, SEED)
    with pytest.raises(ValueError, match="seed -1 is negative"):
        make_corpus(tmp_path / "new", CLIPS, -1)
    with pytest.raises(ValueError, match="0 jobs"):
        make_corpus(tmp_path / "new", CLIPS, SEED, jobs=0)
    (tmp_path / "MSRVTT_data.json").write_text("{}")
    with pytest.raises(ValueError, match=r"not empty and has no demo\.json"):
        make_corpus(tmp_path, CLIPS, SEED)


def test_proportions_of_900_clips(scenes):
    assert Counter(s.split for s in scenes) == {"train": 640, "validate": 60, "test": 200}
    assert Counter(s.bed for s in scenes) == {"related": 450, "music": 305, "silent": 37, "no-track": 108}
    spoken = [s for s in scenes if s.topic is not None]
    assert len(spoken) == 540
    assert not {s.bed for s in spoken} & {SILENT, NO_TRACK}
    assert {(s.thing, s.event) for s in scenes if s.event} == {
        (t, e) for t, events in BELONGING.items() for e in events
    }
    mute = [s for s in scenes if s.topic is None and s.bed != NO_TRACK]
    assert not any(s.transcript for s in mute)
    assert 0.11 < np.mean([s.speaking is demo_scenes.HARD for s in spoken]) < 0.19
    assert {s.thing for s in scenes} == set(OBJECTS) and {s.colour for s in scenes} == set(COLOURS)
    assert {s.place for s in scenes} == set(PLACES) and {s.motion for s in scenes} == set(MOTIONS)


def test_queries_ask_for_what_is_there(scenes):
    test = [s for s in scenes if s.split == "test"]
    asked = Counter(s.captions[0][0] for s in test)
    assert [asked[kind] for kind in KINDS] == [100, 46, 34, 20]
    assert len({s.captions[0][1] for s in test}) == 200
    for scene in scenes:
        kinds = [kind for kind, _ in scene.captions]
        assert set(kinds) <= set(scene.kinds)
        if scene.split != "test":
            assert kinds.count("vision") >= 2 and set(kinds) == set(scene.kinds)
            assert len({text for _, text in scene.captions}) == demo_scenes.CAPTIONS_PER_CLIP
        assert not any("music" in text or " a orange" in text for _, text in scene.captions)


@pytest.mark.parametrize("clips", [20, 21, 33, 57])
def test_small_corpora_have_every_split(clips):
    assert set(Counter(s.split for s in sample_scenes(clips, 0))) == {"train", "validate", "test"}


def test_each_sound_is_shared_by_objects():
    assert set(Counter(e for events in BELONGING.values() for e in events)) == set(EVENTS)
    assert min(Counter(e for events in BELONGING.values() for e in events).values()) >= 2
    assert all(3 <= len(events) <= 4 for events in BELONGING.values())


def test_topics_are_many_and_sentences_fit():
    assert len({topic.name for topic in TOPICS}) >= 40
    for topic in TOPICS:
        assert len(set(topic.sentences)) >= 4
        assert all(6 <= len(sentence.split()) <= 12 for sentence in topic.sentences)


def test_transcripts_are_what_whisper_base_heard():
    """Of the very sentence, and as wrong as it was on the voices of the whole corpus: in a quarter of the words."""
    spoken = [scene for scene in sample_scenes(900, 0) if scene.sentence]
    assert all(scene.transcript in demo_scenes.HEARD[scene.sentence] for scene in spoken)
    every = [(said, heard) for said, readings in demo_scenes.HEARD.items() for heard in readings]
    for pairs in (every, [(scene.sentence, scene.transcript) for scene in spoken]):
        wrong = sum(edit_distance(spoken_words(said), spoken_words(heard)) for said, heard in pairs)
        assert wrong / sum(len(spoken_words(said)) for said, _ in pairs) == pytest.approx(0.26, abs=0.02)
    assert set(demo_scenes.HEARD) <= {sentence for topic in TOPICS for sentence in topic.sentences}
    assert sum(map(len, demo_scenes.HEARD.values())) == len(spoken)


def test_clear_voices_speak_slowly():
    """A recogniser can follow: at most 170 words a minute over all sentences, and no sentence is cut."""
    for speed in demo_scenes.CLEAR.speeds:
        for voice in demo_scenes.CLEAR.voices:
            sentences = [topic.sentences[number % 4] for number, topic in enumerate(TOPICS)]
            seconds = [len(speak(sentence, voice, speed)) / SPEECH_RATE for sentence in sentences]
            assert 60 * sum(len(sentence.split()) for sentence in sentences) / sum(seconds) < 170
            assert all(s < demo_scenes._longest_seconds(x, speed) for s, x in zip(seconds, sentences, strict=True))


def test_teacher_knows_which_sounds_belong(scenes):
    heard = [s for s in scenes if s.teacher_audio is not None][:300]
    cosine = np.stack([s.teacher_video for s in heard]) @ np.stack([s.teacher_audio for s in heard]).T
    belongs = np.array([[sound.event in BELONGING[picture.thing] for sound in heard] for picture in heard])
    assert cosine[belongs].min() > cosine[~belongs].max() + 0.1
    np.testing.assert_allclose([np.linalg.norm(s.teacher_audio) for s in heard], 1, atol=1e-5)


def log_spectrum(sound: np.ndarray) -> np.ndarray:
    windows = sound[: len(sound) // 512 * 512].reshape(-1, 512) * np.hanning(512)
    bands = np.abs(np.fft.rfft(windows))[:, :184].reshape(len(windows), 46, 4).mean(-1)
    return np.log(bands + 0.01).mean(0)


def test_events_sound_different():
    makes = {
        e: [demo_sounds.make_event(e, np.random.default_rng([k, i]), 70000) for i in range(16)]
        for k, e in enumerate(EVENTS)
    }
    spectra = np.stack([[log_spectrum(sound) for sound in sounds] for sounds in makes.values()])
    centroids, held_out = spectra[:, :8].mean(1), spectra[:, 8:]
    nearest = ((held_out[:, :, None] - centroids) ** 2).sum(-1).argmin(-1)
    assert np.mean(nearest == np.arange(len(EVENTS))[:, None]) >= 0.9


def test_speech_stands_out_and_the_bed_stays(scenes, monkeypatch):
    spoken = [(i, s) for i, s in enumerate(scenes) if s.bed == RELATED and s.sentence][:16]
    assert {s.speaking for _, s in spoken} == {demo_scenes.CLEAR, demo_scenes.HARD}
    for i, scene in spoken:
        assert 0.2 < np.abs(mix(scene, generator(0, "media", i))).max() < 0.9001
    monkeypatch.setattr(demo_clip, "PEAK", 100)  # turning a loud mix down would hide the bed's own level
    mixed = [mix(scene, generator(0, "media", i)) for i, scene in spoken]
    monkeypatch.setattr(demo_clip, "_speech_track", lambda scene, sentence, rng, samples: np.zeros(samples))
    for (i, scene), both in zip(spoken, mixed, strict=True):
        bed = mix(scene, generator(0, "media", i))
        speech = (both - bed)[np.abs(both - bed) > 1e-6]
        above = 20 * np.log10(np.sqrt(np.mean(speech**2)) / np.sqrt(np.mean(bed**2)))
        low, high = scene.speaking.bed_below
        assert low - 0.5 < above < high + 1.5  # pauses within the sentence are left out here


def test_objects_differ_at_32_pixels():
    """The outline alone, without colour and inner lines, already differs in 8 % of the area or more."""

    def look(thing: str, i: int) -> np.ndarray:
        icon = demo_pictures.draw_icon(thing, list(demo_pictures.COLOUR_VALUES.values())[i])
        return np.asarray(icon.getchannel("A").resize((32, 32), Image.Resampling.BICUBIC), float).ravel() / 255

    shapes = np.stack([look(thing, i % 8) for i, thing in enumerate(OBJECTS)])
    distance = np.abs(shapes[:, None] - shapes).mean(-1) + np.eye(len(OBJECTS))
    assert distance.min() > 0.08


@pytest.mark.parametrize("motion", list(MOTIONS))
def test_object_stays_in_the_centre_square_and_is_large(motion):
    for size in ((96, 64), (64, 96)):
        args = ("clock", "blue", "stage", motion, size, 9)
        background = np.asarray(demo_pictures.draw_background("stage", np.random.default_rng(4), size), int)
        for picture in demo_pictures.frames(np.random.default_rng(4), *args):
            ys, xs = np.nonzero(np.abs(np.asarray(picture, int) - background).max(-1))
            side = min(size)
            assert max(np.ptp(xs), np.ptp(ys)) + 1 >= 0.44 * side
            for values, length in ((xs, size[0]), (ys, size[1])):
                assert values.min() >= (length - side) / 2 - 1 and values.max() <= (length + side) / 2
