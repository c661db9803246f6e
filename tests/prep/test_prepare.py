"""One sample to one clip: what is broken beside the pictures is left out, and a note says why."""

import dataclasses

import numpy as np
import pytest
from helpers import media
from helpers import official_corpora as made

from data_prep import corpora
from data_prep.clip import prepare
from data_prep.commands import build
from data_prep.media import audio, spectrogram
from data_prep.media.decode import MediaError
from save_jax.data import records

SETTINGS = {"corpus": "odd", "image_size": 32, "max_frames": 12, "frames": "jpeg"}
DROPPED = [{"start": 0.0, "end": 1.0, "text": "la la", "reason": "music"}]


def run(corpus, folder) -> dict:
    return build.build(corpus, str(folder), str(folder / "out"), SETTINGS)


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> corpora.Corpus:
    """Four clips that have pictures and lose something else, and one without captions."""
    folder = tmp_path_factory.mktemp("odd")
    video = media.write_media(folder / "v.mp4", [media.numbered(k) for k in range(10)], fps=10)
    (folder / "broken.wav").write_bytes(b"RIFF no sound")
    (folder / "broken.srt").write_bytes(b"\0\1\2 no subtitles")
    (folder / "good.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nHello <i>there</i> all.\n")
    np.save(folder / "short.npy", np.ones(3, np.float32))
    plain = corpora.Sample(
        id="plain", split="train", video=video, captions=["a"], groups=[""], transcript="", tags=[],
        audio=None, teacher_video=None, teacher_audio=None,
    )  # fmt: skip
    short, said = str(folder / "short.npy"), str(folder / "good.srt")
    samples = [
        plain,
        dataclasses.replace(plain, id="sound", audio=str(folder / "broken.wav")),
        dataclasses.replace(plain, id="teacher", teacher_video=short, teacher_audio=str(folder / "none\udcff.npy")),
        dataclasses.replace(plain, id="subtitles", subtitles=str(folder / "broken.srt")),
        dataclasses.replace(plain, id="said", subtitles=said),
        dataclasses.replace(plain, id="known", subtitles=said, transcript="Known better.", speech={"source": "asr"}),
        # A recogniser found nothing but music, and the video has no subtitles either.
        dataclasses.replace(plain, id="music", subtitles=video, speech={"source": "asr", "dropped": DROPPED}),
        dataclasses.replace(plain, id="silent", captions=[], groups=[], empty_captions=1),
    ]
    return corpora.Corpus("odd", 32, 12, lambda root, **_: {"train": samples})


def test_broken_sound_teacher_and_subtitles_leave_a_note(odd, tmp_path, capsys):
    result = run(odd, tmp_path)
    assert result["failed"] == {"silent": "no caption is left (1 empty ones were dropped)"}
    assert {clip_id: [note.split(":")[0] for note in notes] for clip_id, notes in result["notes"].items()} == {
        "sound": ["sound"],
        "teacher": ["teacher", "teacher"],
        "subtitles": ["subtitles"],
    }
    assert "broken.wav" in result["notes"]["sound"][0] and "has 3 values" in result["notes"]["teacher"][0]
    assert "none\\udcff.npy" in result["notes"]["teacher"][1]  # an odd name is escaped, so that it can be stored
    assert result["counts"]["train"]["with_notes"] == 3 and result["counts"]["train"]["clips"] == 7
    assert result["transcripts"] == {"asr": 1, "subtitles (.srt file)": 1}
    source = records.ShardSource(records.split_shards(str(tmp_path / "out"), "train"))
    clips = {clip.id: clip for clip in (source[number] for number in range(len(source)))}
    assert clips["music"].speech == {"source": "asr", "dropped": DROPPED}
    assert all(len(clip.frames) == 1 for clip in clips.values())
    assert clips["said"].transcript == "Hello there all." and clips["known"].transcript == "Known better."
    assert clips["said"].speech["segments"] == [{"start": 0.0, "end": 1.0, "text": "Hello there all."}]
    assert clips["sound"].notes == result["notes"]["sound"] and clips["sound"].fbank is None
    shown = build.summary(result, "OUT")
    assert "3 clips lost something and were kept:\n  sound: sound: " in shown and "1 clips failed" in shown
    assert "prepared 8 clips in" in capsys.readouterr().out


def test_a_gallery_needs_no_captions(odd, tmp_path):
    result = run(dataclasses.replace(odd, needs_captions=False), tmp_path)
    assert result["failed"] == {} and "silent" in result["written"]["train"]


def test_the_spectrogram_is_of_the_same_sound_and_a_broken_track_counts_once(odd, tmp_path):
    """The sound file beside a video counts, for both; where it is broken both are missing, and one note says so."""
    heard = media.write_media(tmp_path / "heard.wav", sound=media.tone(16000, 7, 880))
    samples = {sample.id: sample for sample in odd.read("")["train"]}
    silent = prepare(samples["plain"], SETTINGS | {"spectrogram": True})
    assert silent.fbank is silent.spectrogram is None and silent.notes == []
    clip = prepare(dataclasses.replace(samples["plain"], audio=heard), SETTINGS | {"spectrogram": True})
    np.testing.assert_array_equal(clip.spectrogram, spectrogram.read_spectrogram(heard))
    np.testing.assert_array_equal(clip.fbank, audio.read_fbank(heard))
    broken = prepare(samples["sound"], SETTINGS | {"spectrogram": True})
    assert broken.fbank is broken.spectrogram is None and len(broken.notes) == 1
    assert prepare(dataclasses.replace(samples["plain"], audio=heard), SETTINGS).spectrogram is None


def test_a_clip_of_a_corpus_of_sounds_needs_its_sound_and_no_pictures(odd, tmp_path):
    heard = media.write_media(tmp_path / "heard.wav", sound=media.tone(16000, 1))
    both, mute = made.video(tmp_path / "both.mp4"), made.video(tmp_path / "mute.mp4", sound=False)
    sample = dataclasses.replace(odd.read("")["train"][0], is_sound=True)

    def run(**changes):
        return prepare(dataclasses.replace(sample, **changes), SETTINGS | {"spectrogram": True})

    alone = run(video=None, audio=heard)
    assert alone.frames == [] and alone.frame_times.shape == (0,) and alone.notes == [] and not alone.failed
    assert alone.fbank is not None and alone.spectrogram is not None
    assert records.decode(records.encode(alone, {"spectrogram": True})).frames == []
    assert len(run(video=str(both)).frames) == 1 and run(video=str(both)).fbank is not None
    film = run(video=heard)  # a "video" that has no picture track
    assert film.frames == [] and film.fbank is not None and film.notes == [f"pictures: {heard}: no video stream"]
    assert len(run(video=str(mute), audio=heard).frames) == 1
    with pytest.raises(MediaError, match=r"mute\.mp4: no sound, which is what this corpus is about"):
        run(video=str(mute))
    with pytest.raises(MediaError, match=r"gone\.wav: no such file"):
        run(video=None, audio=str(tmp_path / "gone.wav"))
    with pytest.raises(MediaError, match=r"pictures: no sound"):
        run(video=str(made.pictures(tmp_path / "pictures")))
