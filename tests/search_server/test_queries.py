"""What is typed is a question, and never a command: to the store, the page, or the reader's terminal."""

import json
from urllib.parse import quote, urlencode

import pytest
from helpers import library as made
from helpers.server import id_of, serve

from save_jax.search.server import captions


def search(served, **asked):
    return served.get("/api/search?" + urlencode(asked, doseq=True))


@pytest.mark.parametrize("name", ["folder", "language"])
@pytest.mark.parametrize(
    "value", ["'", '"', "' OR 1=1 --", "'; DROP TABLE files; --", "%", "_", "\\", "\0", "mine' --", "🎬" * 200, "{}"]
)
def test_quotes_in_a_filter_find_nothing_and_break_nothing(served, name, value):
    answer = search(served, q="dog", **{name: value})
    assert answer.status == 400 and "known are" in answer.json()["detail"]
    assert search(served, q="dog").status == 200


@pytest.mark.parametrize(
    "typed",
    [
        '"', '"dog', 'dog"', '""', '"" dog', '"a" "b', "dog AND", "dog OR (", "((((", "))", "dog~", "dog*", "*", "?",
        "text:dog", "+dog -bird", "^", "\\", "a\\", "/", "[a TO b]", "{", "dog\0bark", "'; --", "%s %n {0}", "a" * 9999,
        "a " * 5000, '"' + "a " * 2000 + '"', "\u202edog", "\x1b[31mdog", "e\u0301" * 500, "\ud7ff", "dog\nbark", "🐕",
    ],
)  # fmt: skip
def test_any_question_is_answered(served, typed):
    answer = search(served, q=typed)
    assert answer.status in (200, 400), answer
    detail = answer.json().get("detail", "")
    assert isinstance(detail, str) and "Traceback" not in detail
    if answer.status == 400:
        assert "no word" in detail, detail


def test_a_question_of_a_megabyte(served):
    assert search(served, q="a" * 10_001).status == 422
    assert search(served, q="dog " * 250_000).status in (0, 400, 414)
    assert search(served, q='"' + "dog " * 7000 + '"').status in (414, 422)
    assert search(served, q="dog").status == 200


@pytest.mark.parametrize(
    ("asked", "status", "message"),
    [
        ({"q": ""}, 400, "no word"),
        ({"q": "dog", "like": "{id}"}, 400, "not both"),
        ({"like": "{id}@x"}, 400, "no number of seconds"),
        ({"like": "{id}@nan"}, 400, "no number of seconds"),
        ({"like": "{id}@1e999"}, 400, "no number of seconds"),
        ({"like": "0" * 24}, 404, "no such file"),
        ({"like": "/etc/passwd"}, 404, "no such file"),
        ({"like": "mine/animals/dog.mp4"}, 404, "no such file"),
        ({"q": "dog", "mute": "smell"}, 400, "can be muted"),
        ({"q": "dog", "mute": ["audio", "vision", "speech"]}, 400, "nothing is left"),
        ({"q": "dog", "mute": ["audio"] * 500}, 422, ""),
        ({"q": "dog", "top": "0"}, 422, ""),
        ({"q": "dog", "top": "101"}, 422, ""),
        ({"q": "dog", "after": "nan"}, 422, ""),
        ({"q": "dog", "longer": "inf"}, 422, ""),
        ({"q": "dog", "shorter": "-inf"}, 422, ""),
        ({"q": "dog", "shorter": "x"}, 422, ""),
        ({"q": "dog", "folder": "a" * 5000}, 422, ""),
    ],
)  # fmt: skip
def test_what_is_asked_wrongly_is_said(served, asked, status, message):
    id = id_of(served.library, "dog.mp4")
    given = {k: v.replace("{id}", id) if isinstance(v, str) else v for k, v in asked.items()}
    answer = search(served, **given)
    assert answer.status == status and message in str(answer.json()["detail"]), answer


def test_the_api_as_it_is_written_down(served):
    id = id_of(served.library, "dog.mp4")
    about = served.get("/api/library").json()
    assert set(about) == {
        "name", "files", "hours", "windows", "senses", "folders", "languages", "offline", "cutoff", "indexing",
        "version", "examples",
    }  # fmt: skip
    assert about["files"] == 2 and about["folders"] == ["mine/animals", "mine/films"] and about["name"] == "lib"
    found = search(served, q='"the dog"', top=5).json()
    assert set(found) == {"hits", "nothing_relevant", "cutoff", "senses", "offline", "took_ms"}
    [hit, *_] = found["hits"]
    assert {k: hit[k] for k in ("id", "name", "folder", "plays", "media", "captions", "origin", "there", "quoted")} == {
        "id": id, "name": "dog.mp4", "folder": "mine/animals", "plays": "direct", "media": f"/media/{id}", "origin": 0,
        "captions": f"/captions/{id}.vtt", "there": True, "quoted": "The dog doesn't bark",
    }  # fmt: skip
    assert set(hit["why"]) == {"vision", "audio", "speech"}
    muted = search(served, q="dog", mute=["audio", "speech"]).json()["hits"]
    assert all(set(hit["why"]) == {"vision"} for hit in muted)
    [bird] = search(served, q="dog", folder="films").json()["hits"]
    assert bird["plays"] == "preview" and bird["media"].startswith(f"/preview/{bird['id']}?start=0.00&end=")
    assert {other["id"] for other in search(served, like=f"{id}@1").json()["hits"]} == {bird["id"]}
    along = served.get(f"/api/files/{id}/along?q=dog").json()
    assert along["duration"] == 3 and [(x["start"], x["end"]) for x in along["windows"]] == [(0, 3)]
    for room in (hit["media"], hit["thumbnail"], hit["captions"], bird["media"], bird["thumbnail"]):
        assert served.get(room).status == 200
    assert served.get("/api/library", method="HEAD").body == b""


# ---------------------------------------------------------------- names and words of others


def test_hostile_names_stay_in_their_place(tmp_path, embedder):
    """In JSON they are text; headers and addresses have nothing of them."""
    hostile = "<img src=x onerror=alert(1)>'\"\u202e\x1b[31m\r\nset-cookie: a=b;&.mp4"
    made.write_video(tmp_path / "mine" / "<b>\u2028" / hostile, 2, 1, ["alert < script & \u202e\x1b[2J"])
    with serve(made.make_library(tmp_path / "lib", embedder, tmp_path / "mine")) as server:
        answer = search(server, q="script alert")
        [hit] = answer.json()["hits"]
        assert hit["name"] == hostile and hit["folder"] == "mine/<b>\u2028"
        assert answer.headers["content-type"] == "application/json"
        for room in ("media", "thumbnail", "captions"):
            answer = server.get(hit[room])
            assert answer.status == 200 and "set-cookie" not in answer.headers
            assert hit[room].isascii() and not set("<>'\"") & set(hit[room])
            assert "alert" not in json.dumps(answer.headers)
        said = server.get(hit["captions"]).body.decode()
        assert not {"\u202e", "\x1b", "<"} & set(said) and "alert &lt; script &amp; [2J" in said
        by_folder = server.get("/api/search?q=a&folder=" + quote("mine/<b>\u2028"))
        assert len(by_folder.json()["hits"]) == 1


def test_captions_hold_nothing_but_their_lines():
    lines = [
        {"start": 1.0, "end": 2.5, "text": "a & b <i>c</i>\n\n00:00:05.000 --> 00:00:06.000\nnot mine"},
        {"start": 3700.0, "end": 3700.0, "text": "late\u2066\u2029"},
        {"start": 5.0, "end": 6.0, "text": "\u202e \x00"},
    ]
    written = captions.webvtt(lines)
    assert written == (
        "WEBVTT\n\n00:00:01.000 --> 00:00:02.500\n"
        "a &amp; b &lt;i&gt;c&lt;/i&gt; 00:00:05.000 --&gt; 00:00:06.000 not mine"
        "\n\n01:01:40.000 --> 01:01:40.100\nlate\n"
    )
    assert captions.webvtt(lines, 2.0).startswith("WEBVTT\n\n00:00:00.000 --> 00:00:00.500\n")
    assert captions.webvtt([]) == "WEBVTT\n"


def test_captions_are_a_track(served):
    id = id_of(served.library, "dog.mp4")
    answer = served.get(f"/captions/{id}.vtt")
    assert answer.headers["content-type"] == "text/vtt; charset=utf-8"
    assert "00:00:00.100 --> 00:00:00.900\nThe dog doesn't bark" in answer.body.decode()
    assert "00:00:00.000 --> 00:00:00.400" in served.get(f"/captions/{id}.vtt?start=0.5").body.decode()
    for name in (id, f"{id}.srt", f"{id}.vtt.vtt", ".vtt", f"{id}.VTT"):
        assert served.get(f"/captions/{name}").status == 404
