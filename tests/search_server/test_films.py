"""What browsers cannot play, as short films; and pictures of any file, whatever it claims to be."""

import io
import os
import socket
import subprocess
import threading
import time

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from helpers import library as made
from helpers import media
from helpers.server import id_of, index_plainly, serve
from PIL import Image

from data_prep.media.opening import MediaError
from save_jax.search.server import encoding, pictures
from save_jax.search.server.media import Media
from save_jax.search.server.previews import LONGEST, Previews, around

FPS, SECONDS = 20, 5
FRAMES = [media.numbered(k) for k in range(FPS * SECONDS)]
TONE = media.tone(16000, SECONDS)
# name → (how it is written, how it is played)
FILES: dict[str, tuple[dict, str]] = {
    "plain.mp4": ({}, "direct"),
    "mute.mp4": ({"sound": None}, "direct"),
    "deep.mp4": ({"pix_fmt": "yuv444p"}, "preview"),
    "hevc.mp4": ({"codec": "libx265", "codec_options": {"x265-params": "log-level=0"}}, "preview"),
    "opus.webm": ({"codec_options": {"deadline": "realtime", "cpu-used": "8"}}, "direct"),
    "avc.mkv": ({"codec": "libx264"}, "preview"),
    "pcm.mov": ({"codec": "libx264"}, "preview"),
    "aac.mov": ({"codec": "libx264", "sound_codec": "aac"}, "direct"),
    "a.ts": ({"begins": 3, "sound_begins": 3}, "preview"),
    "a.avi": ({}, "preview"),
    "a.mpg": ({}, "preview"),
    "a.wmv": ({}, "preview"),
}


OFF = {"a.avi": 2}  # pictures: AVI has no times at which they are shown


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A library of every kind."""
    root = tmp_path_factory.mktemp("films") / "root"
    root.mkdir()
    for name, (options, _) in FILES.items():
        media.write_media(root / name, FRAMES, fps=FPS if name != "a.mpg" else 25, **{"sound": TONE, **options})
    return index_plainly(root.parent / "index", root)


@pytest.fixture(scope="module")
def shown(films):
    with serve(films) as server:
        yield server


def decoded(body: bytes):
    """(times and numbers of the pictures, the first and last second of sound) of a film."""
    with av.open(io.BytesIO(body)) as film:
        names = [stream.codec_context.name for stream in film.streams]
        seen, heard = [], []
        for frame in film.decode():
            if isinstance(frame, av.VideoFrame):
                seen.append((frame.time, media.number_of(frame.to_ndarray(format="rgb24"))))
            else:
                heard.append(frame)
        return names, seen, heard


@pytest.mark.parametrize("name", FILES)
def test_how_a_file_is_played(films, name):
    [row] = [row for row in films.store.file_rows() if row["path"] == name]
    there, plays, origin = Media(films).state(row)
    assert (there, plays, origin) == (True, FILES[name][1], 0)


@pytest.mark.parametrize("name", FILES)
def test_a_preview_is_the_stretch_that_was_asked_for(shown, name):
    fps = 25 if name == "a.mpg" else FPS
    answer = shown.get(f"/preview/{id_of(shown.library, name)}?start=1.5&end=3.5")
    assert answer.status == 200 and answer.headers["content-type"] == "video/mp4"
    names, seen, heard = decoded(answer.body)
    assert names[-1:] == ["h264"] or "h264" in names
    times, numbers = zip(*seen, strict=True)
    wanted = [round((1.5 + time) * fps) for time in times]
    assert times[0] == 0 and times[-1] > min(2, len(FRAMES) / fps - 1.5) - 0.15
    assert max(abs(a - b) for a, b in zip(numbers, wanted, strict=True)) <= OFF.get(name, 1), (numbers, wanted)
    if FILES[name][0].get("sound", 0) is None:
        assert not heard
    else:
        assert abs(heard[0].time) < 0.05 and 1.9 < heard[-1].time < 2.1
        loud = np.abs(np.concatenate([frame.to_ndarray() for frame in heard], axis=1)[:, 5000:-5000])
        assert 0.2 < loud.max() < 0.8 and (loud.reshape(2, -1).mean() > 0.1)


@pytest.mark.parametrize("name", FILES)
def test_a_thumbnail_is_the_picture_of_its_second(shown, name):
    fps = 25 if name == "a.mpg" else FPS
    answer = shown.get(f"/thumbnail/{id_of(shown.library, name)}?at=2")
    assert answer.headers["content-type"] == "image/jpeg"
    assert abs(media.number_of(np.asarray(Image.open(io.BytesIO(answer.body)))) - 2 * fps) <= OFF.get(name, 1)


def test_a_preview_stands_upright_and_is_small(tmp_path):
    path = tmp_path / "a.mp4"
    media.write_media(path, media.moving(3, 1280, 720), fps=3, rotation=90)
    encoding.encode(str(path), str(tmp_path / "out.mp4"), 0, 1, lambda: False)
    with av.open(str(tmp_path / "out.mp4")) as film:
        assert (film.streams.video[0].width, film.streams.video[0].height) == (360, 640)
        assert not film.streams.audio


def test_a_file_whose_clock_restarts(tmp_path):
    """Two films of MPEG-TS in one file: times go on, as they do in the index."""
    root = tmp_path / "root"
    root.mkdir()
    for name, numbers in (("a.ts", range(100)), ("b.ts", range(100, 200))):
        media.write_media(tmp_path / name, [media.numbered(k) for k in numbers], fps=FPS, sound=TONE)
    joined = (tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes()
    (root / "joined.ts").write_bytes(joined)
    path, out = str(root / "joined.ts"), str(tmp_path / "out.mp4")
    for start, end in ((4, 7), (6, 8)):
        encoding.encode(path, out, start, end, lambda: False, 10.0)
        with open(out, "rb") as film:
            _, seen, heard = decoded(film.read())
        assert seen[-1][0] > end - start - 0.3 and heard[-1].time > end - start - 0.3
        assert max(abs(number - (start + time) * FPS) for time, number in seen) <= 3, seen
    for second in (2, 4, 6, 8):
        picture = np.asarray(Image.open(io.BytesIO(pictures.thumbnail(path, second, 10.0))))
        assert abs(media.number_of(picture) - second * FPS) <= 3


def test_a_large_picture_is_made_small_first(monkeypatch):
    """Of 4K no picture in full size is made of all colours."""
    frame = av.VideoFrame.from_ndarray(np.zeros((2160 * 3 // 2, 3840), np.uint8), "yuv420p")
    monkeypatch.setattr(pictures.video, "upright", lambda *_: pytest.fail("it is made in full size"))
    assert pictures.small(frame, VideoReformatter(), 1.0, 640).shape == (360, 640, 3)
    assert pictures.small(frame, VideoReformatter(), 0.5, 640).shape == (640, 569, 3)
    begun = time.process_time()
    for _ in range(3):
        pictures.small(frame, VideoReformatter(), 1.0, 640)
    assert (time.process_time() - begun) / 3 < 0.1


def test_what_lies_nowhere_is_said(shown):
    id = id_of(shown.library, "a.avi")
    for asked in ("start=99", "start=3&end=2", "start=2&end=2", "start=18"):
        assert shown.get(f"/preview/{id}?{asked}").status == 400, asked
    for asked in ("start=-1", "start=nan", "end=inf", "start=x", "end=-0.1"):
        assert shown.get(f"/preview/{id}?{asked}").status == 422, asked
    for asked in ("at=-1", "at=nan", "at=1e400", "at="):
        assert shown.get(f"/thumbnail/{id}?{asked}").status == 422, asked
    assert shown.get(f"/thumbnail/{id}?at=1e300").status == 200
    assert shown.get(f"/preview/{id}?start=15").status == 200  # its row says 18 s: the last picture stands


def test_a_preview_has_ranges_and_a_tag(shown):
    address = f"/preview/{id_of(shown.library, 'a.avi')}?start=0&end=1"
    whole = shown.get(address)
    part = shown.get(address, {"range": "bytes=4-7", "if-range": whole.headers["etag"]})
    assert (part.status, part.body) == (206, b"ftyp")
    assert shown.get(address, method="HEAD").headers["content-length"] == str(len(whole.body))


def test_around():
    assert around(10, 22, 15, 100) == (8, 24)
    assert around(0, 4, 1, 4) == (0, 4)
    begin, end = around(0, 500, 250, 500)
    assert end - begin == LONGEST and begin < 250 < end
    assert around(0, 500, 499, 500) == (470, 500)


# ---------------------------------------------------------------- room


def folder_of(films) -> int:
    return sum(entry.stat().st_size for entry in os.scandir(films._folder))


def test_the_oldest_previews_go_first(films, tmp_path):
    kept = Previews(str(tmp_path / "previews"), limit=60_000)
    with serve(films, films=kept) as server:
        id = id_of(films, "a.avi")
        sizes = [len(server.get(f"/preview/{id}?start={k}&end={k + 2}").body) for k in range(3)]
        assert sum(sizes) > 60_000 >= folder_of(kept) > 0
        names = {entry.name for entry in os.scandir(tmp_path / "previews")}
        assert server.get(f"/preview/{id}?start=2&end=4").status == 200  # the newest is still there
        assert {entry.name for entry in os.scandir(tmp_path / "previews")} == names


def test_a_cache_that_is_too_small_is_a_clear_answer(films, tmp_path):
    with serve(films, films=Previews(str(tmp_path / "previews"), limit=1000)) as server:
        answer = server.get(f"/preview/{id_of(films, 'a.avi')}?end=2")
        assert answer.status == 507 and "all of them may take 1000" in answer.json()["detail"]
        assert not os.listdir(tmp_path / "previews")
        assert server.get("/api/library").status == 200


def test_a_full_disk_is_a_clear_answer(films, tmp_path):
    (tmp_path / "disk").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(tmp_path / "disk")]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only the system's administrator mounts disks")
    try:
        with serve(films, films=Previews(str(tmp_path / "disk" / "previews"))) as server:
            answer = server.get(f"/preview/{id_of(films, 'a.avi')}?end=3")
            assert answer.status == 507 and "disk is full" in answer.json()["detail"]
            assert not os.listdir(tmp_path / "disk" / "previews")
            assert server.get("/api/library").status == 200
    finally:
        subprocess.run(["umount", str(tmp_path / "disk")], check=True)


def test_a_folder_that_cannot_be_written_is_done_without(films, tmp_path):
    (tmp_path / "file").write_text("")
    with serve(films, films=Previews(str(tmp_path / "file" / "previews"))) as server:
        assert server.get(f"/preview/{id_of(films, 'a.avi')}?end=1").status == 200


def test_one_film_is_made_once_however_many_ask(films, tmp_path):
    kept = Previews(str(tmp_path / "previews"), at_once=1)
    with serve(films, films=kept) as server:
        address, bodies = f"/preview/{id_of(films, 'a.avi')}?end=4", []
        threads = [threading.Thread(target=lambda: bodies.append(server.get(address).body)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(bodies)) == 1 and len(bodies) == 8 and len(os.listdir(tmp_path / "previews")) == 1


def test_too_many_previews_are_refused_and_the_end_is_soon(tmp_path, films):
    kept = Previews(str(tmp_path / "previews"), at_once=1)
    with serve(films, films=kept) as server:
        id, statuses = id_of(films, "hevc.mp4"), []
        threads = [
            threading.Thread(
                target=lambda k=k: statuses.append(server.get(f"/preview/{id}?start={k / 10}&end={k / 10 + 4}").status)
            )
            for k in range(40)
        ]
        with kept._writing:  # the first one does not come to its end before the others were asked for
            for thread in threads:
                thread.start()
            assert server.get("/api/library").status == 200
            deadline = time.monotonic() + 60
            while 503 not in statuses and time.monotonic() < deadline:
                time.sleep(0.01)
            assert set(statuses) == {503}
            kept.stop()
        for thread in threads:
            thread.join()
        assert set(statuses) <= {200, 503} and 503 in statuses
        assert statuses.count(200) < len(threads) / 2  # those that waited were given up, not made
        assert not [name for name in os.listdir(tmp_path / "previews") if name.endswith(".part")]


# ---------------------------------------------------------------- files of a stranger's making


def test_playlists_lead_neither_to_files_nor_to_the_network(tmp_path):
    """Each names a canary and a listener. Nothing of the one is sent, and nobody calls the other."""
    root = tmp_path / "root"
    root.mkdir()
    canary = tmp_path / "canary.mp4"
    media.write_media(canary, FRAMES[:20], fps=FPS)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.3)
        there = f"http://127.0.0.1:{listener.getsockname()[1]}/a.mp4"
        lists = {
            "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{canary}\n#EXTINF:9,\n{there}\n#EXT-X-ENDLIST\n",
            "concat": f"ffconcat version 1.0\nfile '{canary}'\nfile '{there}'\n",
            "dash": "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011' type='static'><Period>"
            f"<AdaptationSet><Representation id='1'><BaseURL>{there}</BaseURL></Representation></AdaptationSet>"
            "</Period></MPD>",
            "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
            "svg": f"<svg xmlns='http://www.w3.org/2000/svg'><image href='file://{canary}'/></svg>",
        }
        for name, text in lists.items():
            (root / f"{name}.mp4").write_text(text)
        library = index_plainly(tmp_path / "index", root)
        with serve(library) as server:
            for name in lists:
                id = id_of(library, f"{name}.mp4")
                assert server.get(f"/preview/{id}").status == 415, name
                kept = library.picture(
                    next(r["content"] for r in library.store.file_rows() if r["path"] == f"{name}.mp4"), 0
                )
                assert server.get(f"/thumbnail/{id}").body == kept
        with pytest.raises(TimeoutError):
            listener.accept()


def test_giant_pictures_are_not_taken_for_shown(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    media.write_media(path, FRAMES[:4], fps=FPS)
    monkeypatch.setattr(pictures, "MOST_PIXELS", 63 * 64)
    for show in (
        lambda: pictures.thumbnail(str(path), 0),
        lambda: encoding.encode(str(path), str(tmp_path / "out.mp4"), 0, 1, lambda: False),
    ):
        with pytest.raises(MediaError, match="larger than are shown"):
            show()


def test_a_damaged_film_costs_its_own_answer(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    whole = made.write_video(root / "whole.mp4", 3, 1).read_bytes()
    (root / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    (root / "noise.mp4").write_bytes(whole[:2000] + np.random.default_rng(0).bytes(len(whole) - 2000))
    (root / "empty.mp4").write_bytes(b"")
    library = index_plainly(tmp_path / "index", root)
    with serve(library) as server:
        for name in ("cut.mp4", "noise.mp4", "empty.mp4"):
            id = id_of(library, name)
            assert server.get(f"/preview/{id}").status in (200, 415), name
            assert server.get(f"/thumbnail/{id}").status == 200
            assert server.get(f"/media/{id}").status == 200
        assert server.get(f"/preview/{id_of(library, 'whole.mp4')}").status == 200
