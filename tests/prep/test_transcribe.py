"""Voice activity, filters against invented text, the cache and the transcript file. No torch.

Whisper itself runs in test_torch_whisper.py: weights cannot be made without torch, so an engine of the same interface
stands in here, which says how long each piece is and counts its calls.
"""

import json
import logging
import os
import re
from pathlib import Path

import numpy as np
import pytest
from helpers.media import numbered, write_corpus, write_media
from helpers.recognising import LIMITS, Counting, run, sample, segment, task, write_sounds
from helpers.voices import RATE, music, noise, silence, spoken

from data_prep import runners
from data_prep.commands import transcribe
from data_prep.corpora import CORPORA, transcript_files
from data_prep.speech import filters, transcripts, vad, whisper
from data_prep.speech.cache import model_identity
from data_prep.speech.filters import Thresholds

# ---------------------------------------------------------------- filters


LONG_LOOP = "and the one who is on the left side, " * 12
VOICED = [(0.0, 2.0)]


@pytest.mark.parametrize(
    ("said", "voices", "reason"),
    [
        (segment("The train leaves at nine."), VOICED, None),
        (segment("No, no, no!"), VOICED, None),
        (segment("Row, row, row your boat gently down the stream"), VOICED, None),
        (segment("No no no no, he said that the train to London has left"), VOICED, None),  # there is more to it
        (segment("Thank you.", no_speech=0.05), VOICED, None),  # somebody does say so
        (segment("Thanks for watching our show tonight", no_speech=0.5), VOICED, None),
        (segment("A faint voice", no_speech=0.9, logprob=-0.4), VOICED, None),  # its words are sure
        (segment("The train leaves at nine."), None, None),  # voices were not looked for
        (segment("The train leaves at nine."), [(5.0, 9.0)], "no voice activity"),
        (segment("A faint voice", no_speech=0.35, logprob=-1.1), VOICED, None),  # it may be speech
        (segment("A faint voice", no_speech=0.9, logprob=-1.1), VOICED, "no speech"),
        (segment("I'm going to go back to the next one.", no_speech=0.48, logprob=-0.75), VOICED, "no speech"),
        (segment("Colourless green ideas", logprob=-1.6), VOICED, "improbable words"),
        (segment("you you you you"), VOICED, "a loop ('you' 4 times"),
        (segment("Well, I know, I know, I know, I know"), VOICED, "a loop ('i know' 4 times"),
        (segment("ははははははは"), VOICED, "a loop"),
        (segment(LONG_LOOP), VOICED, "repetition"),
        (segment(" ♪♪ … "), VOICED, "no words"),
        (segment("Thanks for watching!", no_speech=0.4), VOICED, "often invents"),
        (segment("Thanks for watching!"), [(0.0, 0.5)], "often invents"),
        (segment("Subtitles by the Amara.org community", no_speech=0.4), VOICED, "often invents"),
        (segment("ご視聴ありがとうございました", no_speech=0.4), VOICED, "often invents"),
    ],
)
def test_what_is_dropped_and_why(said, voices, reason):
    kept, dropped = filters.keep([said], voices)
    if reason is None:
        assert kept == [said] and not dropped
    else:
        assert not kept and dropped[0][0] == said and reason in dropped[0][1]


def test_the_same_segment_in_a_row_is_said_once():
    lines = [segment("First.", 0, 1), *(segment("Oh my God.", k, k + 1) for k in range(1, 5)), segment("Last.", 5, 6)]
    kept, dropped = filters.keep(lines, None)
    assert [one.text for one in kept] == ["First.", "Oh my God.", "Last."]
    assert len(dropped) == 3 and "4 times in a row" in dropped[0][1]
    assert len(filters.keep(lines[1:3], None)[0]) == 2  # twice can be


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("ababab", "ab"),  # by turns, three times
        ("xababaxx", "xababaxx"),  # not three times each
        ("abcabcabcd", "abcd"),
        ("aaab", "ab"),
        ("abab", "abab"),  # people say that
        ("aabbaabbaabb", "aabbaabbaabb"),  # four by turns: not looked for
    ],
)
def test_segments_that_come_again_by_turns_are_said_once(said, kept):
    texts = {letter: f"Number {letter}." for letter in "abcdx"}
    segments = [segment(texts[letter], k, k + 1) for k, letter in enumerate(said)]
    found, dropped = filters.keep(segments, [(0.0, 20.0)])
    assert [one.text for one in found] == [texts[letter] for letter in kept]
    assert all("times in a row" in reason for _, reason in dropped) and len(found) + len(dropped) == len(said)


def test_what_is_said_again_after_a_pause_is_kept():
    """An announcement, a refrain, a lesson: a decoder that hangs makes no pause."""
    announced = [segment("Mind the gap.", 600 * k, 600 * k + 2) for k in range(3)]
    assert filters.keep(announced, None) == (announced, [])
    by_turns = [segment("One." if k % 2 else "Two.", 3 * k, 3 * k + 1.5) for k in range(6)]
    assert filters.keep(by_turns, None) == (by_turns, [])
    hung = [segment("Mind the gap.", 2.5 * k, 2.5 * k + 2) for k in range(3)]
    assert len(filters.keep(hung, None)[1]) == 2


def test_music_that_beats_speech_is_dropped():
    both = [segment("Sung over a song", 0, 1), segment("A lyric", 1, 2)]
    sounds = [{"speech": 0.6, "music": 0.8}, {"speech": 0.2, "music": 0.7}]
    kept, dropped = filters.keep(both, None, sounds)
    assert kept == both[:1] and "music (probability 0.70, speech 0.20)" in dropped[0][1]
    with pytest.raises(ValueError, match="2 segments have 1 sound"):
        filters.keep(both, None, sounds[:1])


def test_limits_are_the_callers():
    said = segment("A faint voice", no_speech=0.35, logprob=-0.65)
    assert filters.keep([said], VOICED)[0]
    assert not filters.keep([said], VOICED, limits=Thresholds(no_speech=0.3, logprob=-0.6))[0]


# ---------------------------------------------------------------- voice activity


def voices(samples: np.ndarray) -> list[tuple[float, float]]:
    [cut] = vad.cut([samples], "silero")
    return cut.voices


def test_voices_are_found_and_nothing_else():
    for nobody in (silence(5), noise(5), music(5), 0.5 * np.sin(np.arange(5 * RATE) * 0.17).astype(np.float32)):
        assert voices(nobody) == []
    sentence = spoken("The train to London leaves at nine from platform four.")
    seconds = len(sentence) / RATE
    [(start, end)] = voices(np.concatenate([silence(4), sentence, music(6)]))
    assert abs(start - 4) < 0.4 and abs(end - 4 - seconds) < 0.6


def test_neighbours_share_a_piece_and_no_block_cuts_a_word():
    sentence = spoken("The train to London leaves at nine from platform four.")
    one = np.concatenate([silence(1), sentence, silence(1), sentence, silence(6)])
    track = np.concatenate([one] * 4)
    [whole] = vad.cut([track], "silero")
    assert len(whole.pieces) == 4 and len(whole.voices) == 8
    assert all(piece.seconds < 12 for piece in whole.pieces)
    # Blocks of 5 seconds, which end within sentences, give the same pieces at the same times.
    cuts = list(vad.cut((track[k : k + 5 * RATE] for k in range(0, len(track), 5 * RATE)), "silero"))
    pieces = [piece for cut in cuts for piece in cut.pieces]
    np.testing.assert_allclose([p.start for p in pieces], [p.start for p in whole.pieces], atol=0.1)
    np.testing.assert_allclose([p.seconds for p in pieces], [p.seconds for p in whole.pieces], atol=0.2)
    for piece in pieces:
        first = round(piece.start * RATE)
        np.testing.assert_array_equal(piece.samples, track[first : first + len(piece.samples)])
    assert sum(len(cut.voices) for cut in cuts) == 8


def test_long_speech_is_cut_within_thirty_seconds():
    track = np.concatenate([spoken("Counting one two three four five six seven eight nine ten.")] * 12)
    for method in vad.METHODS:
        [cut] = vad.cut([track], method)
        assert len(cut.pieces) > 1 and all(piece.seconds <= 30 for piece in cut.pieces)
        assert sum(piece.seconds for piece in cut.pieces) > 0.95 * len(track) / RATE
    assert cut.voices is None  # not looked for, which is not the same as none


def test_without_a_detector_the_quietest_moment_is_cut_and_nothing_is_lost():
    loud = noise(70)
    loud[27 * RATE : 27 * RATE + RATE // 2] = 0
    blocks = [loud[k : k + 40 * RATE] for k in range(0, len(loud), 40 * RATE)]
    pieces = [piece for cut in vad.cut(blocks, "none") for piece in cut.pieces]
    assert 27 < pieces[0].seconds < 27.5
    np.testing.assert_array_equal(np.concatenate([piece.samples for piece in pieces]), loud)


def test_what_is_not_installed_is_said_with_the_command(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"pip install -c constraints.txt -e '\.\[prep,speech\]', or go without .* --vad none"
    ):
        vad.require("silero")
    with pytest.raises(
        ValueError, match=r"package torch: pip install -c constraints.txt -e '\.\[prep,torch\]', or .*fast"
    ):
        whisper.require("transformers")
    vad.require("none")


# ---------------------------------------------------------------- cache and transcript file


def test_rows_have_the_official_form_and_what_the_build_adds(tmp_path):
    _, rows = run(tmp_path, write_sounds(tmp_path, 2), Counting())
    assert rows[0] == {
        "key": "clip0.wav",
        "text": "Number 10 is said.",
        "source": "whisper/transformers",
        "language": "en",
        "segments": [{"start": 0, "end": 0.5, "text": "Number 10 is said."}],
    }
    assert rows[1]["text"] == "Number 11 is said."


def test_only_what_is_new_is_transcribed(tmp_path):
    samples = write_sounds(tmp_path)
    first, again, other, changed, last = (Counting() for _ in range(5))
    result, rows = run(tmp_path, samples, first)
    assert first.pieces == 5 and result["counts"]["from the cache"] == 0
    result, same = run(tmp_path, samples, again)
    assert again.calls == 0 and result["counts"]["from the cache"] == 5 and same == rows
    run(tmp_path, samples, other, model_identity="two")
    run(tmp_path, samples, other, detector="none", language="de")
    assert other.pieces == 10
    write_media(tmp_path / "clip3.wav", sound=noise(2))
    _, rows = run(tmp_path, samples, changed)
    assert changed.pieces == 1 and rows[3]["text"] == "Number 20 is said."
    (tmp_path / "clip3.wav").rename(tmp_path / "moved.wav")  # content counts, not the name
    run(tmp_path, [sample(tmp_path / "moved.wav")], last)
    assert last.calls == 0


def test_limits_change_the_rows_without_transcribing(tmp_path):
    [one] = write_sounds(tmp_path, 1)
    run(tmp_path, [one], Counting())
    engine, out = Counting(), str(tmp_path / "transcripts.json")
    strict = Thresholds(hopeless_logprob=-0.2)
    transcribe.transcribe([one], out, task(tmp_path, engine), runners.Here(), strict)
    [row] = json.loads(Path(out).read_text())
    assert engine.calls == 0 and row["text"] == "" and "segments" not in row
    assert row["dropped"] == [
        {"start": 0, "end": 0.5, "text": "Number 10 is said.", "reason": "improbable words (log-probability -0.30)"}
    ]


def test_a_damaged_entry_is_done_again_with_a_warning(tmp_path, caplog):
    samples = write_sounds(tmp_path, 3)
    _, rows = run(tmp_path, samples, Counting())
    entries = sorted((tmp_path / "cache").glob("*/*.json"))
    assert len(entries) == 3
    entries[0].write_text(entries[0].read_text()[:50])
    entries[1].write_text(entries[1].read_text().replace("Number", "Cucumber"))
    engine = Counting()
    with caplog.at_level(logging.WARNING):
        _, again = run(tmp_path, samples, engine)
    assert engine.pieces == 2 and again == rows
    assert {record.args[0] for record in caplog.records} == {str(entries[0]), str(entries[1])}
    assert "its checksum differs" in caplog.text


def test_clips_that_cannot_be_heard_stop_nothing(tmp_path):
    [good] = write_sounds(tmp_path, 1)
    broken, mute, pictures = tmp_path / "broken.mp4", tmp_path / "mute.mp4", tmp_path / "pictures"
    broken.write_bytes(b"no media at all")
    write_media(mute, [numbered(k) for k in range(3)])
    pictures.mkdir()
    samples = [sample(broken), sample(tmp_path / "lost.mp4"), sample(mute), sample(pictures), good]
    samples.append(sample(broken, "other", audio=good.video))  # its own sound file counts, not the video
    result, rows = run(tmp_path, samples, Counting())
    by_key = {row["key"]: row for row in rows}
    assert "not a readable media file" in by_key["broken.wav"]["problem"]
    assert "lost.mp4: No such file" in by_key["lost.wav"]["problem"]
    assert by_key["mute.wav"] == {"key": "mute.wav", "text": "", "source": "whisper/transformers"}
    assert by_key["pictures.wav"]["text"] == "" and "problem" not in by_key["pictures.wav"]
    assert by_key["clip0.wav"]["text"] and by_key["other.wav"]["text"]
    assert result["problems"].keys() == {"broken", "lost"} and result["counts"]["without sound"] == 2
    text = transcribe.summary(result, str(tmp_path / "transcripts.json"), [])
    assert "2 clips could not be heard" in text and "--transcripts" in text
    # Mended, it is tried again, by --missing-only as well; rows of other clips stay.
    write_media(broken, sound=None, frames=[numbered(1)])
    todo = transcribe.missing(samples, str(tmp_path / "transcripts.json"))
    assert [one.id for one in todo] == ["broken", "lost"]
    _, rows = run(tmp_path, todo[:1], Counting())
    assert len(rows) == 6 and "problem" not in rows[0]
    # What was heard is not lost with the file.
    os.unlink(good.video)
    result, rows = run(tmp_path, [good], Counting())
    assert result["problems"]["clip0"].endswith("its earlier transcript stays")
    assert {row["key"]: row for row in rows}["clip0.wav"] == by_key["clip0.wav"]


def test_only_what_is_missing_is_heard_and_the_build_reads_all(tmp_path):
    """A table by hand knows one clip, and that nothing is said in another; one has subtitles, and one nothing."""
    videos, out = tmp_path / "videos", tmp_path / "videos" / "transcripts.json"
    videos.mkdir()
    for name in "abcd":
        write_media(videos / f"{name}.mp4", [numbered(k) for k in range(5)], sound=noise(1))
    (videos / "transcripts.csv").write_text("video,text\na.mp4,Good morning.\nb.mp4,\n")
    (videos / "c.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nGood evening.\n")

    def samples():
        return CORPORA["folder"].read(str(videos))["test"]

    missing = transcribe.missing(samples(), str(out), keys_are_ids=True)
    assert [one.id for one in missing] == ["d.mp4"]
    result = transcribe.transcribe(missing, str(out), task(tmp_path), runners.Here(), LIMITS, keys_are_ids=True)
    assert [one.transcript for one in samples()] == ["Good morning.", "", "", "Number 10 is said."]
    said = transcribe.summary(result, str(out), transcript_files(str(videos), "transcripts.csv"))
    assert said.endswith(f"has 1 rows\nthe build reads it for clips that {videos / 'transcripts.csv'} does not have")
    assert transcribe.missing(samples(), str(out), keys_are_ids=True) == []
    (videos / "d.mp4").write_bytes(b"none")  # what could not be heard stays missing
    out.unlink()
    transcribe.transcribe(missing, str(out), task(tmp_path), runners.Here(), LIMITS, keys_are_ids=True)
    assert [one.id for one in transcribe.missing(samples(), str(out), keys_are_ids=True)] == ["d.mp4"]


@pytest.mark.parametrize(
    "limits", [{"no_speech": -0.7}, {"logprob": 0.4}, {"hopeless_logprob": 1.5}, {"no_speech": 1.5}, {"voiced": 2}]
)
def test_limits_that_cannot_be_meant_are_refused(limits):
    [(name, value)] = limits.items()
    with pytest.raises(ValueError, match=rf"the limit {name} is {value}; it lies between"):
        Thresholds(**limits)


def test_a_group_that_is_lost_as_a_whole_is_done_one_by_one(tmp_path):
    class Choking(Counting):
        def transcribe(self, waveforms, languages):
            if len(waveforms) > 1:
                raise RuntimeError("out of memory")
            return super().transcribe(waveforms, languages)

    result, rows = run(tmp_path, write_sounds(tmp_path), Choking())
    assert not result["problems"] and len(rows) == 5 and all(row["text"] for row in rows)


def test_the_longest_piece_says_the_language(tmp_path):
    class ByLength(Counting):
        def transcribe(self, waveforms, languages):
            given = [
                language or ("de" if len(w) > 5 * RATE else "ja")
                for w, language in zip(waveforms, languages, strict=True)
            ]
            return super().transcribe(waveforms, given)

    short, long = spoken("Yes."), spoken("The train to London leaves at nine from platform four, not from seven.")
    write_media(tmp_path / "two.wav", sound=np.concatenate([short, silence(5), long, long]))
    _, [row] = run(tmp_path, [sample(tmp_path / "two.wav")], ByLength(), detector="silero")
    assert row["language"] == "de" and len(row["segments"]) == 2
    assert row["segments"][0]["start"] < 1 and row["segments"][1]["start"] > 5


def test_a_long_piece_has_its_own_language(tmp_path):
    """Where Whisper is sure of it. A doubt is heard again as the file's; a short piece is not asked."""
    sentence = spoken("The train to London leaves at nine from platform four, not from seven.")

    class ByLength(Counting):
        def transcribe(self, waveforms, languages):
            heard = []
            for waveform, given in zip(waveforms, languages, strict=True):
                own, sure = {4: ("en", 1.0), 3: ("ja", 0.9)}.get(round(len(waveform) / len(sentence)), ("cy", 0.4))
                said = segment(f" {self.pieces} in {given or own}.", 0, 0.5)
                heard.append(whisper.Recognised(given or own, [said], 1.0 if given else sure))
                self.pieces += 1
            return heard

    parts = [part for times in (4, 3, 2) for part in (*[sentence] * times, silence(5))]
    write_media(tmp_path / "one.wav", sound=np.concatenate([*parts, spoken("Yes.")]))
    result, [row] = run(tmp_path, [sample(tmp_path / "one.wav")], ByLength(), detector="silero")
    assert not result["problems"] and row["language"] == "en"
    # The longest comes first, and Japanese sets nothing apart.
    assert row["text"] == "0 in en.1 in ja. 4 in en. 3 in en."
    assert [part.get("language", "") for part in row["segments"]] == ["", "ja", "", ""]
    _, speech = transcripts.read(str(tmp_path / "transcripts.json"))["one"]
    assert speech["segments"] == row["segments"] and speech["language"] == "en"
    _, [row] = run(tmp_path, [sample(tmp_path / "one.wav")], ByLength(), detector="silero", language="en")
    assert not any("language" in part for part in row["segments"])


def test_nobody_speaks_and_whisper_is_not_asked(tmp_path):
    write_media(tmp_path / "song.wav", sound=music(6))
    engine = Counting()
    _, [row] = run(tmp_path, [sample(tmp_path / "song.wav")], engine, detector="silero")
    assert engine.calls == 0 and row["text"] == ""


def test_music_is_judged_anew_where_the_segments_are_others(tmp_path):
    """The engine is not deterministic to the segment: a result that is lost and made again may have more of them."""
    [one] = write_sounds(tmp_path, 1)
    asked = []

    def classes(waveforms):
        asked.append(len(waveforms))
        return [{"speech": 1.0, "music": 0.0}] * len(waveforms)

    class Two(Counting):
        def transcribe(self, waveforms, languages):
            return [whisper.Recognised("en", [segment("One.", 0, 0.4), segment("Two.", 0.4, 0.8)]) for _ in waveforms]

    def recognise(engine):
        made = task(tmp_path, engine, ast="ast", ast_identity="ast")
        made._loaded["classes"] = classes
        [result] = made([one.video])
        return result

    first = recognise(Counting())
    assert recognise(Counting())["sounds"] == first["sounds"] and asked == [1]
    for path in (tmp_path / "cache").glob("*/*.json"):
        if "segments" in json.loads(path.read_text())["result"]:
            path.unlink()
    again = recognise(Two())
    assert len(again["segments"]) == len(again["sounds"]) == 2 and asked == [1, 2]


def test_nothing_to_transcribe_writes_nothing(tmp_path, capsys):
    write_media(tmp_path / "a.mp4", [numbered(k) for k in range(5)], sound=noise(1))
    (tmp_path / "transcripts.csv").write_text("video,text\na.mp4,Good morning.\n")
    before = sorted(os.listdir(tmp_path))
    assert transcribe.main(["--corpus", "folder", "--root", str(tmp_path), "--missing-only"]) == 0
    assert capsys.readouterr().out == "nothing to transcribe\n" and sorted(os.listdir(tmp_path)) == before


def test_paths_are_absolute_for_workers_elsewhere(tmp_path, monkeypatch):
    write_media(tmp_path / "videos.mp4", [numbered(k) for k in range(5)], sound=noise(1))
    (tmp_path / "model").mkdir()
    monkeypatch.setattr(transcribe.whisper, "check", lambda *_: None)  # an empty folder is no model
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos.mp4").rename(tmp_path / "videos" / "a.mp4")
    seen = []

    def seen_only(samples, out, task, *_):
        seen.append((samples[0].video, out, task.model, task.cache.folder))
        raise KeyboardInterrupt

    monkeypatch.setattr(transcribe, "transcribe", seen_only)
    monkeypatch.chdir(tmp_path)
    command = ["--corpus", "folder", "--root", "videos", "--engine", "faster-whisper", "--model", "model"]
    assert transcribe.main(command) == transcribe.main([*command, "--out", "o.json", "--cache", "c"]) == 130
    names = [("videos/a.mp4", "videos/transcripts.json", "model", "videos/transcripts.json.cache")]
    names.append(("videos/a.mp4", "o.json", "model", "c"))
    assert seen == [tuple(str(tmp_path / name) for name in row) for row in names]


def test_a_model_is_known_by_its_files(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"1")
    first = model_identity(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"2")
    assert model_identity(str(tmp_path)) != first
    changed = model_identity(str(tmp_path))
    for name in ("README.md", "LICENSE", ".DS_Store", ".gitattributes", "notes.md"):
        (tmp_path / name).write_text("for people")
    assert model_identity(str(tmp_path)) == changed
    named = whisper.short_name(str(tmp_path / "model"), first)
    assert re.fullmatch(r"model@[0-9a-f]{12}", named) and named.split("@")[1] in first
    assert whisper.short_name("openai/whisper-large-v3", "openai/whisper-large-v3") == "whisper-large-v3"
    assert model_identity("openai/whisper-large-v3") == "openai/whisper-large-v3"


def test_the_command(tmp_path, capsys):
    root = write_corpus(tmp_path / "made", {"train": ["a", "b"], "val": ["c"], "test": ["d"]})
    command = ["--corpus", "demo", "--root", str(root), "--engine", "faster-whisper"]
    # Tones, so nobody speaks and no weights are needed.
    assert transcribe.main([*command, "--splits", "train", "val"]) == 0
    said = capsys.readouterr().out
    assert "3 clips, 0 with speech" in said and str(root / "transcripts.json") in said
    rows = json.loads((root / "transcripts.json").read_text())
    assert [row["key"] for row in rows] == ["a.wav", "b.wav", "c.wav"]
    assert transcribe.main([*command, "--missing-only"]) == 0
    assert "1 clips, 0 with speech, 0 without sound, 0 from the cache" in capsys.readouterr().out
    for more, message in [
        (["--splits", "dev"], "['dev'] are not in demo"),
        (["--batch-size", "0"], "must be at least 1"),
        (["--model", "./nowhere"], "--model ./nowhere: no such file or folder here"),
        (["--ast", "./nowhere"], "--ast ./nowhere: no such file or folder here"),
        (["--language", "german"], "no language 'german'; it takes codes: af, am,"),
        (["--language", "fr", "--model", "tiny.en"], "tiny.en knows English alone, and --language is fr"),
    ]:
        assert transcribe.main([*command, *more]) == 1 and message in capsys.readouterr().err
    assert transcribe.main([*command, "--out", str(root / "VideoData" / "a.mp4")]) == 1
    assert "would be overwritten" in capsys.readouterr().err
    rows = [{"key": "a.wav", "start": k, "end": k + 1, "text": "Good morning."} for k in range(2)]  # a row a segment
    (root / "segments.json").write_text(json.dumps(rows))
    (root / "transcripts.json").unlink()
    assert transcribe.main([*command, "--missing-only", "--out", str(root / "segments.json")]) == 0
    kept = json.loads((root / "segments.json").read_text())
    assert kept[:2] == rows and [row["key"] for row in kept[2:]] == ["b.wav", "c.wav", "d.wav"]
    # Plain folders: ids are paths, and so are the keys.
    videos = tmp_path / "videos"
    (videos / "talks").mkdir(parents=True)
    write_media(videos / "talks" / "a.mp4", [numbered(k) for k in range(5)], sound=noise(1))
    assert transcribe.main(["--corpus", "folder", "--root", str(videos), "--engine", "faster-whisper"]) == 0
    assert json.loads((videos / "transcripts.json").read_text())[0]["key"] == "talks/a.mp4"
    (tmp_path / "empty").mkdir()
    assert (
        transcribe.main(
            [*command, "--out", str(tmp_path / "o.json"), "--vad", "none", "--model", str(tmp_path / "empty")]
        )
        == 1
    )
    assert "cannot be loaded with faster-whisper" in capsys.readouterr().err
