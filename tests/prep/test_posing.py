"""Files that pose as media: playlists and containers that name another file and a server on this machine.

Neither is ever read: no picture, sample or letter of the canary comes out, and nobody calls.
"""

import socket
import struct
import threading

import numpy as np
import pytest
import simplejpeg
from helpers import media

from data_prep.media import audio, video
from data_prep.media.opening import MediaError, open_media, packets
from data_prep.speech import subtitles

CANARY = 200  # the number that its pictures show
SECRET = "the canary sings"


@pytest.fixture
def listener():
    """(port, calls)."""
    calls: list = []
    server = socket.create_server(("127.0.0.1", 0))

    def accept():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            calls.append(connection.recv(1000))
            connection.close()

    threading.Thread(target=accept, daemon=True).start()
    yield server.getsockname()[1], calls
    server.close()


@pytest.fixture
def canary(tmp_path):
    """A film, its sound and a text, beside the files that name them."""
    frames = [media.numbered(CANARY)] * 20
    for name in ("canary.ts", "canary.mp4", "canary.mov"):
        codec = "libx264" if name != "canary.ts" else None
        media.write_media(tmp_path / name, frames, fps=10, sound=media.tone(16000, 2), codec=codec, sound_codec="mp2"
                          if name == "canary.ts" else "aac")  # fmt: skip
    (tmp_path / "canary.srt").write_text(f"1\n00:00:00,000 --> 00:00:01,000\n{SECRET}\n")
    return tmp_path


def playlists(folder, port):
    """Name → text."""
    server, near, far = f"http://127.0.0.1:{port}/canary.ts", "canary.ts", folder / "canary.ts"
    hls = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:2.0,\n{}\n#EXT-X-ENDLIST\n"
    master = f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nhttp://127.0.0.1:{port}/a.m3u8\n"
    dash = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT2S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period>'
        '<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{}</BaseURL>'
        "</Representation></AdaptationSet></Period></MPD>"
    )
    sdp = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    sdp += f"m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    key = hls.format(near).replace("#EXTINF", f'#EXT-X-KEY:METHOD=AES-128,URI="{server}"\n#EXTINF')
    return {
        "hls": hls.format(near), "hls far": hls.format(f"file://{far}"), "hls server": hls.format(server),
        "hls master": master, "hls key": key,
        "concat": "ffconcat version 1.0\nfile canary.mp4\n", "concat server": f"ffconcat version 1.0\nfile {server}\n",
        "dash": dash.format(near), "dash server": dash.format(server), "sdp": sdp,
        "rtsp": f"rtsp://127.0.0.1:{port}/x", "pictures": "canary%d.jpg",
    }  # fmt: skip


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_playlists_are_no_media(canary, listener, suffix):
    port, calls = listener
    for number, (name, text) in enumerate(playlists(canary, port).items()):
        path = canary / f"posing{number}{suffix}"
        path.write_text(text)
        for read in (lambda p: video.read_frames(p, 64, 12), audio.waveform, lambda p: open_media(p).__enter__()):
            with pytest.raises(MediaError, match=f"posing{number}") as caught:
                read(str(path))
            assert SECRET not in str(caught.value), name
    assert not calls


@pytest.mark.parametrize("name", ["http://127.0.0.1:{}/a.mp4", "tcp://127.0.0.1:{}", "concat:canary.ts|canary.ts",
                                  "lavfi:color", "subfile,,start,0,end,900000,,:canary.ts"])  # fmt: skip
def test_addresses_are_no_files(canary, listener, name, monkeypatch):
    monkeypatch.chdir(canary)
    port, calls = listener
    with pytest.raises(MediaError):
        video.read_frames(name.format(port), 64, 12)
    assert not calls


def chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def avi_with(text: bytes) -> bytes:
    """Three pictures, a second each, and a text track with this file in it, as VirtualDub writes subtitles."""
    picture = simplejpeg.encode_jpeg(media.numbered(7), 95, "RGB", "420")
    strh = b"%s%s" + struct.pack("<IHHIIIIIIII4h", 0, 0, 0, 0, 1, 1, 0, 3, 1 << 16, 0, 0, 0, 0, 64, 64)
    bitmap = struct.pack("<IiiHH4sIiiII", 40, 64, 64, 1, 24, b"MJPG", 64 * 64 * 3, 0, 0, 0, 0)
    tracks = chunk(b"LIST", b"strl" + chunk(b"strh", strh % (b"vids", b"MJPG")) + chunk(b"strf", bitmap))
    tracks += chunk(b"LIST", b"strl" + chunk(b"strh", strh % (b"txts", b"\0\0\0\0")) + chunk(b"strf", b""))
    main = struct.pack("<14I", 10**6, 0, 0, 0x10, 3, 0, 2, 1 << 16, 64, 64, 0, 0, 0, 0)
    name = "x\0".encode("utf-16-le")
    gab2 = b"GAB2\0" + struct.pack("<HI", 2, len(name)) + name + struct.pack("<HI", 4, len(text)) + text
    movie = b"movi" + chunk(b"01tx", gab2) + 3 * chunk(b"00dc", picture)
    return chunk(b"RIFF", b"AVI " + chunk(b"LIST", b"hdrl" + chunk(b"avih", main) + tracks) + chunk(b"LIST", movie))


def test_subtitles_within_avi_are_text_and_no_playlist(canary, listener):
    port, calls = listener
    path = canary / "a.avi"
    path.write_bytes(avi_with((canary / "canary.srt").read_bytes()))
    said, _ = subtitles.read(str(path), str(path), lambda line: None)
    assert said == SECRET  # its own: the file is as it should be
    for name, text in playlists(canary, port).items():
        path.write_bytes(avi_with(text.encode()))
        frames, _ = video.read_frames(str(path), 64, 12)
        assert [media.number_of(simplejpeg.decode_jpeg(frame)) for frame in frames] == [7] * 3, name
        try:
            said, _ = subtitles.read(str(path), str(path), lambda line: None)
        except ValueError as error:
            said = str(error)
        assert SECRET not in said, name
    assert not calls


def boxes_with(data: bytes, reference: bytes) -> bytes:
    """An MP4 file whose tracks lie elsewhere."""
    out, at = b"", 0
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + size]
        if kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
            body = boxes_with(body, reference)
        elif kind == b"dref":
            body = struct.pack(">II", 0, 1) + struct.pack(">I4sI", 12 + len(reference), b"alis", 0) + reference
        out += struct.pack(">I4s", len(body) + 8, kind) + body
        at += size
    return out


def alias(path: str) -> bytes:
    """A Macintosh alias, as QuickTime has it."""
    name = path.rpartition("/")[2].encode()
    entries = struct.pack(">hH", 2, len(path)) + path.encode() + b"\0" * (len(path) % 2) + struct.pack(">hH", -1, 0)
    volume, own = b"\0" * 28, bytes([len(name)]) + name.ljust(63, b"\0")
    return b"\0" * 10 + volume + b"\0" * 12 + own + b"\0" * 16 + struct.pack(">hh", 1, 1) + b"\0" * 16 + entries


@pytest.mark.parametrize("place", ["canary.mov", "{}/canary.mov", "http://127.0.0.1:{}/canary.mov"])
def test_tracks_of_another_file_are_not_read(canary, listener, place):
    port, calls = listener
    path = canary / "a.mov"
    frames = [media.numbered(7)] * 20
    media.write_media(path, frames, fps=10, sound=media.tone(16000, 2), codec="libx264", sound_codec="aac")
    whole = path.read_bytes()
    path.write_bytes(boxes_with(whole, alias(place.format(port if "http" in place else canary))))
    with pytest.raises(MediaError):
        video.read_frames(str(path), 64, 12)
    with open_media(str(path)) as container:
        assert sum(packet.size for packet in packets(container)) == 0
    try:
        samples = audio.waveform(str(path))
    except MediaError:
        samples = None
    assert samples is None or not np.any(samples)
    assert not calls
