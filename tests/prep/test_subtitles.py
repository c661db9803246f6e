"""Subtitles to a transcript with time stamps: files, tracks inside videos, and what is not speech."""

from fractions import Fraction

import av
import pytest
from av.subtitles.subtitle import SubtitleSet
from helpers import official_corpora as made

from data_prep.media.decode import MediaError
from data_prep.speech import subtitles

SRT = """1
00:00:01,000 --> 00:00:02,500
<i>Hello</i> <font color="#ffffff">there</font>,
{\\an8}you &amp; me.

2
00:00:04,000 --> 00:00:05,000
- Good morning.
- Morning.
"""
VTT = """WEBVTT - A title
Kind: captions

STYLE
::cue { color: red }

NOTE a comment
of two lines

one
00:01.000 --> 00:02.500 align:start position:0%
<v Anna>Hello <00:00:01.500><c.yellow>there</c>,
you &amp; me.

00:00:04.000 --> 00:00:05.000
- Good morning.
- Morning.
"""
SAID = "Hello there, you & me. - Good morning. - Morning."
SEGMENTS = [
    {"start": 1.0, "end": 2.5, "text": "Hello there, you & me."},
    {"start": 4.0, "end": 5.0, "text": "- Good morning. - Morning."},
]
_ASS_HEADER = (
    b"[Script Info]\r\nScriptType: v4.00+\r\n\r\n[V4+ Styles]\r\nFormat: Name, Fontname, Fontsize\r\n"
    b"Style: Default,Arial,16\r\n\r\n[Events]\r\n"
    b"Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\r\n"
)


def write(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def srt(*cues):
    """A .srt file of (start, end, text) in whole seconds below a minute, or fractions with three digits."""
    stamps = [
        (f"00:00:{start:06.3f}".replace(".", ","), f"00:00:{end:06.3f}".replace(".", ",")) for start, end, _ in cues
    ]
    return "\n".join(f"{k}\n{a} --> {b}\n{cues[k][2]}\n" for k, (a, b) in enumerate(stamps))


def texts(speech):
    return [part["text"] for part in speech.get("segments", [])]


def dropped(speech):
    return [part["text"] for part in speech.get("dropped", [])]


@pytest.mark.parametrize(("name", "content"), [("a.srt", SRT), ("a.SRT", SRT.replace("\n", "\r\n")), ("a.vtt", VTT)])
def test_files(tmp_path, name, content):
    text, speech = subtitles.read(write(tmp_path / name, content))
    assert text == SAID
    assert speech == {"source": f"subtitles ({name[1:].lower()} file)", "segments": SEGMENTS}


def test_what_is_not_speech(tmp_path):
    cues = [
        (1, 2, "[music]"),
        (2, 3, "(door slams\nloudly)"),
        (3, 4, "♪ la la la ♪\nHello there."),
        (4, 5, "[ANNA] Come (whispering) here."),
        (5, 6, "♪ and la"),
        (6, 7, "..."),
    ]
    text, speech = subtitles.read(write(tmp_path / "a.srt", srt(*cues)))
    assert text == "Hello there. Come here."
    assert dropped(speech) == ["[music]", "(door slams loudly)", "♪ la la la ♪", "[ANNA]", "(whispering)", "♪ and la"]
    assert speech["dropped"][0] == {"start": 1.0, "end": 2.0, "text": "[music]", "reason": "not speech"}


def test_rolling_captions_count_once(tmp_path):
    cues = [(1, 2, "one two"), (2, 2.01, "one two"), (2.01, 3, "one two\nthree four"), (3, 4, "three four\nfive six")]
    text, speech = subtitles.read(write(tmp_path / "a.srt", srt(*cues)))
    assert text == "one two three four five six"
    assert [part["end"] for part in speech["segments"]] == [2.01, 3.0, 4.0]


def test_the_same_line_after_a_pause_was_said_again(tmp_path):
    text, _ = subtitles.read(write(tmp_path / "a.srt", srt((1, 2, "Come on."), (5, 6, "Come on."))))
    assert text == "Come on. Come on."


def test_cues_out_of_order_and_ends_before_starts(tmp_path):
    text, speech = subtitles.read(write(tmp_path / "a.srt", srt((5, 4, "Second line."), (1, 2, "First line."))))
    assert text == "First line. Second line." and speech["segments"][1]["end"] == 5.0


@pytest.mark.parametrize(
    ("name", "language"),
    [("a.en.srt", "en"), ("a.en-GB.sdh.srt", "en"), ("a.PT.srt", "pt"), ("a.deu.vtt", "deu"), ("my.clip.srt", None)],
)
def test_language_from_the_name(tmp_path, name, language):
    assert subtitles.read(write(tmp_path / name, VTT if name.endswith("vtt") else SRT))[1].get("language") == language


@pytest.mark.parametrize(
    ("data", "source"),
    [
        ("café au lait".encode("utf-8-sig"), "subtitles (.srt file)"),
        ("café au lait".encode("utf-16"), "subtitles (.srt file)"),
        ("café au lait".encode("cp1252"), "subtitles (.srt file, read as cp1252)"),
    ],
)
def test_encodings(tmp_path, data, source):
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else None
    frame = srt((1, 2, "@"))
    content = frame.replace("@", "café au lait").encode("utf-16") if encoding else frame.encode().replace(b"@", data)
    if data.startswith(b"\xef\xbb\xbf"):
        content = b"\xef\xbb\xbf" + frame.encode().replace(b"@", data[3:])
    text, speech = subtitles.read(write(tmp_path / "a.srt", content))
    assert text == "café au lait" and speech["source"] == source


def test_a_guessed_encoding_is_told_and_a_doubtful_one_refused(tmp_path):
    said = "今天天气很好，我们去公园散步。"
    text, speech = subtitles.read(write(tmp_path / "a.srt", srt((1, 2, said)).encode("gbk")))
    assert text == said and speech["source"] == "subtitles (.srt file, read as gb18030)"
    with pytest.raises(ValueError, match=r"a\.srt: not UTF-8 \(line 3\); it may be cp949 or gb18030 or big5"):
        subtitles.read(write(tmp_path / "a.srt", srt((1, 2, "你好")).encode("gbk")))


@pytest.mark.parametrize(
    "content",
    [
        "00:00:01,000 --> 00:00:02,000\nHello there\n\n00:00:03,000 --> 00:00:04,000\nBye, it is\n1984\n",  # no numbers
        "1\n00:00:01.000 --> 00:00:02.000\nHello there\n2\n00:00:03.000 --> 00:00:04.000\nBye, it is\n1984",
        "1\n\n00:00:01,000 --> 00:00:02,000\n\nHello\n\nthere\n\n2\n\n00:00:03,000 --> 00:00:04,000\n\nBye, it is 1984",
        "\ufeff1\r0:0:1,0 -> 0:0:2,0\rHello there\r\r2\r00:03,000 --> 00:04,000\rBye, it is 1984\r",
        "WEBVTT\n\n00:01.000 --> 00:02.000\nHello <c>there</c>\n\n00:03.000 --> 00:04.000\nBye, it is 1984\n",
        "1\n00:00:01,000 --> 00:00:02,000 X1:9 X2:9\n{\\an8}{b}Hello{/b}\\Nthere\n\n2\n"
        "00: 00: 03, 000 --> 00:00:04,000\n{\\p1}m 0 0 l 100 0 100 100{\\p0}Bye, it is 1984\n",
    ],
)
def test_subrip_as_people_write_it(tmp_path, content):
    text, speech = subtitles.read(write(tmp_path / "a.srt", content))
    assert text == "Hello there Bye, it is 1984"
    assert [(part["start"], part["end"]) for part in speech["segments"]] == [(1.0, 2.0), (3.0, 4.0)]


def test_what_looks_like_markup_is_said(tmp_path):
    text, _ = subtitles.read(write(tmp_path / "a.srt", srt((1, 2, "if a < b and c > d, {so} be it"))))
    assert text == "if a < b and c > d, {so} be it"


WEBVTT = """WEBVTT - some title
X-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:900000

REGION
id:fred
width:40%

STYLE
::cue(b) {
  color: red;
}

NOTE Translator: Anna
and Bert

introduction
00:01.000 --> 00:02.000 region:fred align:start
<v.loud Esme>Hello <00:00:01.500><c.yellow>there</c>,

NOTE checked

2
100:00:03.000 --> 100:00:04.000
<ruby>漢字<rt>かんじ</rt></ruby>&nbsp;&amp; more

and a stray line
"""


def test_webvtt_is_not_subrip(tmp_path):
    """Names of cues, notes, styles and regions are not said. A block without a time is kept apart, with a reason."""
    text, speech = subtitles.read(write(tmp_path / "a.vtt", WEBVTT))
    assert text == "Hello there, 漢字 & more"
    assert [part["start"] for part in speech["segments"]] == [1.0, 360003.0]
    assert dropped(speech) == ["and a stray line", "(かんじ)"]
    assert speech["dropped"][0]["reason"] == "no time: a block of WebVTT that is no cue"


def test_captions_that_roll_as_youtube_writes_them(tmp_path):
    cues = [
        ("00.160 --> 00:02.389 align:start position:0%", " \nhello<00:00:00.480><c> and</c><00:00:00.640><c> you</c>"),
        ("02.389 --> 00:02.399 align:start position:0%", "hello and you\n "),
        ("02.399 --> 00:04.550 align:start position:0%", "hello and you\nto<00:00:02.879><c> the</c><c> show</c>"),
        ("04.550 --> 00:04.560 align:start position:0%", "to the show\n "),
        ("04.560 --> 00:06.000 align:start position:0%", "to the show\nthe<00:00:04.800><c> show</c>"),
    ]
    content = "WEBVTT\nKind: captions\nLanguage: en\n\n" + "\n\n".join(f"00:{time}\n{text}" for time, text in cues)
    text, speech = subtitles.read(write(tmp_path / "a.en.vtt", content))
    assert text == "hello and you to the show the show"
    assert [(part["start"], part["end"]) for part in speech["segments"]] == [(0.16, 2.399), (2.399, 4.56), (4.56, 6.0)]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.srt", b"\x00\x01\x02 nothing of the kind " * 20, "no subtitle in"),
        ("a.vtt", SRT.replace("-->", "to"), "no subtitle in"),
        ("a.srt", SRT + "\n3\n00:00:0x,000 --> 00:00:09,000\nlost\n", r"damaged subtitles at 4\.0 s"),
        ("a.srt", srt((1, 2, "a\0b")), "damaged subtitles at 1"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content, reason):
    with pytest.raises(ValueError, match=rf"{name}: .*{reason}"):
        subtitles.read(write(tmp_path / name, content))


def test_missing_files_and_odd_names(tmp_path):
    with pytest.raises(ValueError, match=r"caf\\xe9\.srt: subtitles cannot be read \(No such file"):
        subtitles.read(str(tmp_path / "caf\udce9.srt"))


@pytest.mark.parametrize(("name", "content"), [("a.srt", ""), ("a.srt", " \n"), ("a.vtt", "WEBVTT\n\n")])
def test_files_without_a_subtitle(tmp_path, name, content):
    text, speech = subtitles.read(write(tmp_path / name, content))
    assert text == "" and "segments" not in speech


# ---------------------------------------------------------------- tracks


def with_track(source, path, codec, cues, language="eng"):
    """A copy of the video with a subtitle track of (start, end, ASS text) in seconds."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        picture = new.add_stream_from_template(old.streams.video[0])
        track = new.add_stream(codec)
        track.codec_context.time_base = Fraction(1, 1000)
        track.codec_context.subtitle_header = _ASS_HEADER
        if language:
            track.metadata["language"] = language
        for packet in old.demux(old.streams.video[0]):
            if packet.dts is not None:
                packet.stream = picture
                new.mux(packet)
        for number, (start, end, text) in enumerate(cues):
            line = f"{number},0,Default,,0,0,0,,{text}".encode()
            pts, duration = round(start * 1000), round((end - start) * 1000)
            packet = track.codec_context.encode_subtitle(SubtitleSet.create(line, 0, duration, pts=pts))
            packet.stream, packet.time_base = track, Fraction(1, 1000)
            packet.pts, packet.dts, packet.duration = pts, pts, duration
            new.mux(packet)
    return str(path)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return made.video(tmp_path_factory.mktemp("media") / "plain.mp4", sound=False)


CUES = [(1, 2.5, "{\\i1}Hello{\\i0} there,\\Nyou, me."), (3, 3.5, "[music]"), (4, 5, "Good morning.")]


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", "mov_text"), (".mkv", "subrip"), (".mkv", "ass"), (".mkv", "webvtt")]
)
def test_tracks(tmp_path, plain, suffix, codec):
    path = with_track(plain, tmp_path / f"a{suffix}", codec, CUES)
    text, speech = subtitles.read(path)
    assert text == "Hello there, you, me. Good morning." and speech["language"] == "eng"
    assert speech["source"].startswith("subtitles (") and speech["source"].endswith(" track)")
    assert speech["segments"] == [
        {"start": 1.0, "end": 2.5, "text": "Hello there, you, me."},
        {"start": 4.0, "end": 5.0, "text": "Good morning."},
    ]
    assert dropped(speech) == ["[music]"]


def test_a_track_of_readings_and_drawings(tmp_path, plain):
    """Drones write their readings into the video, too."""
    readings = [(k, k + 0.5, f"F/2.8, SS 320.02, ISO 100, EV 0, H 5.{k}m") for k in range(4)]
    text, speech = subtitles.read(with_track(plain, tmp_path / "a.mp4", "mov_text", readings))
    assert text == "" and "readings of a camera" in speech["dropped"][0]["reason"]
    shapes = [(1, 2, "{\\p1}m 0 0 l 100 0 100 100{\\p0}"), (2, 3, "Good morning.")]
    assert subtitles.read(with_track(plain, tmp_path / "b.mkv", "ass", shapes))[0] == "Good morning."


def test_a_track_of_no_language(tmp_path, plain):
    assert "language" not in subtitles.read(with_track(plain, tmp_path / "a.mp4", "mov_text", CUES, language=""))[1]


def test_a_video_without_a_track_has_no_subtitles(plain):
    assert subtitles.read(str(plain)) == ("", {})


def test_a_broken_video(tmp_path):
    with pytest.raises(MediaError, match=r"a\.mp4: not a readable media file"):
        subtitles.read(write(tmp_path / "a.mp4", b"no video" * 100))


def test_a_damaged_track(tmp_path, plain):
    path = tmp_path / "a.mkv"
    with_track(plain, path, "subrip", CUES)
    data = path.read_bytes()
    assert data.count(b"Good morning.") == 1
    path.write_bytes(data.replace(b"Good morning.", b"\xff\xff\xff\xff morning."))
    with pytest.raises(ValueError, match=r"a\.mkv: the subtitle track is damaged after 3 packets"):
        subtitles.read(str(path))
