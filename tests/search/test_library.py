"""Questions to an index: the one score, what filters and quotation marks ask for, and what is refused."""

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import library
from helpers.library import NoModel, write_video

import save_jax
from save_jax.models.similarity import VideoIndex
from save_jax.search import judgements, ranking, words
from save_jax.search import library as library_module
from save_jax.search.library import Filters, Library
from save_jax.search.plain import plain
from save_jax.search.store import Store
from save_jax.search.windows import Cut


def names(answer) -> list[str]:
    return [os.path.basename(hit.file) for hit in answer.hits]


def test_moments_are_ranked_by_the_score_of_training(opened, embedder):
    """`model.score` over the same windows; what is stored has half the bits."""
    view = opened.view
    stored, mask = opened.store.frames(view.table, np.arange(len(view)))
    rows, *_ = opened.store.explained(view.table, np.arange(len(view)))
    frames = stored.astype(np.float32)
    np.testing.assert_allclose(
        opened.store.terms(view.table, np.arange(len(view))).astype(np.float32).sum(axis=1), frames, atol=2e-2
    )
    index = VideoIndex(frames / np.linalg.norm(frames, axis=-1, keepdims=True), np.asarray(view.means), mask)
    for query in ("a red car", "a bird sings about bread"):
        expected = embedder.model.score(query, index)[0]
        [vector] = embedder.texts([query])
        np.testing.assert_allclose(embedder.score(vector, stored, mask), expected, rtol=2e-3, atol=2e-2)
        best = int(expected.argmax())
        hits = opened.search(query, evidence="fused").hits
        assert (hits[0].start, os.path.basename(hits[0].file)) == (
            rows[best]["start"],
            os.path.basename(view.files[rows[best]["content"]][0]["path"]),
        )
        assert hits[0].score == pytest.approx(expected[best], abs=2e-2)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_a_window_scores_as_the_file_that_holds_it_alone(opened, embedder, videos):
    """A file of one window: `embed_videos` of it, with the words that are said."""
    bird = videos / "animals" / "bird.mp4"
    expected = embedder.model.score("a red bird", embedder.model.embed_videos([bird], progress=False))[0, 0]
    [hit] = opened.search("a red bird", filters=Filters(longer=2.5, shorter=3.5)).hits
    assert hit.file == str(bird) and hit.score == pytest.approx(expected, abs=0.05)


def test_exact_is_the_same_for_a_small_library(opened):
    for query in ("a red car", "bread"):
        assert opened.search(query) == opened.search(query, exact=True)


def test_who_asks_for_more_or_mutes_has_more_windows_scored(opened, monkeypatch):
    """All of this library's, so that the order is that of `exact`; however few are scored at the least."""
    scored, score = [], opened.embedder.score
    monkeypatch.setattr(
        opened.embedder, "score", lambda query, frames, mask: scored.append(len(frames)) or score(query, frames, mask)
    )
    monkeypatch.setattr(library_module, "CANDIDATES", 1)
    assert opened.search("a red car", top=100) == opened.search("a red car", top=100, exact=True)
    monkeypatch.setattr(library_module, "_FOR_A_MOMENT", 0)
    scored.clear()
    opened.search("a red car", top=1, evidence="fused")
    opened.search("a red car", top=1, evidence="fused", mute=["audio"])
    assert scored[0] == 1 and 4 in scored


def test_words_are_found_behind_those_that_a_filter_leaves_out(opened, monkeypatch):
    """The best line is the car's; among the animals, the model alone would show the bird, who says nothing."""
    monkeypatch.setattr(library_module, "CANDIDATES", 1)
    monkeypatch.setattr(library_module, "_FOR_A_MOMENT", 0)
    animals = Filters(folder="animals")
    assert names(opened.search("the", top=1, evidence="lexical")) == ["red.mp4"]
    assert names(opened.search("the", top=1, evidence="fused", filters=animals)) == ["bird.mp4"]
    assert names(opened.search("the", top=1, evidence="lexical", filters=animals)) == ["dog.mp4"]


def test_hits_that_overlap_are_one_moment(opened):
    hits = opened.search("a red car", top=100).hits
    for first in hits:
        assert first.start <= first.best <= first.end and set(first.why) == {"vision", "audio", "speech"}
        for second in hits:
            if first is not second and first.file == second.file:
                assert first.end <= second.start or second.end <= first.start
    assert len({hit.file for hit in hits}) == 3 and len(opened.search("a red car", top=1).hits) == 1


def test_a_muted_sense_is_left_out(opened, embedder):
    view, vector = opened.view, embedder.texts(["a bird in the grass"])[0]
    _, mask = opened.store.frames(view.table, np.arange(len(view)))
    rows, *_ = opened.store.explained(view.table, np.arange(len(view)))
    without = embedder.without(vector, opened.store.terms(view.table, np.arange(len(view))), mask)
    for number, sense in enumerate(embedder.senses):
        answer = opened.search("a bird in the grass", mute=[sense])
        best = rows[int(without[number].argmax())]
        assert answer.hits[0].score == pytest.approx(without[number].max(), abs=1e-3)
        assert answer.hits[0].start == best["start"] and sense not in answer.hits[0].why
        along = opened.along(answer.hits[0].name, "a bird in the grass", mute=[sense])
        assert max(part["score"] for part in along) == answer.hits[0].score
    assert [hit.quoted for hit in opened.search('"red car"', mute=["speech"]).hits] == ["a red car"]
    with pytest.raises(ValueError, match="nothing is left: this model ranks by vision, audio, speech"):
        opened.search("a bird", mute=embedder.senses)
    with pytest.raises(ValueError, match="smell: of vision, audio and speech can be muted"):
        opened.search("a bird", mute=["smell"])


def test_all_windows_of_a_file_are_scored_in_time_order(opened):
    [hit] = [hit for hit in opened.search("a red car").hits if hit.file.endswith("dog.mp4")][:1]
    along = opened.along(hit.name, "a red car")
    assert [part["start"] for part in along] == [0, 1, 2]
    assert [part["score"] for part in along if part["start"] == hit.start] == [hit.score]
    assert len(opened.along(hit.name, like=hit.file)) == 3
    with pytest.raises(ValueError, match="ask for one moment at least"):
        opened.search("a red car", top=0)
    with pytest.raises(ValueError, match="nobody is no file of this index"):
        opened.along("nobody", "a red car")


def test_filters_come_before_the_ranking(opened, videos):
    everything = set(names(opened.search("bread", top=100)))
    assert everything == {"dog.mp4", "bird.mp4", "red.mp4"}
    for filters, wanted in (
        (Filters(folder="animals"), {"dog.mp4", "bird.mp4"}),
        (Filters(folder="mine/cars/"), {"red.mp4"}),
        (Filters(longer=4.5), {"dog.mp4"}),
        (Filters(shorter=3.5), {"bird.mp4"}),
        (Filters(folder="animals", longer=4.5), {"dog.mp4"}),
        (Filters(after=4e9), set()),
        (Filters(after=1e9), everything),
    ):
        assert set(names(opened.search("bread", top=100, filters=filters))) == wanted, filters
        assert set(names(opened.search("bread", top=1, filters=filters))) <= wanted
    one = opened.search("bread", top=1, filters=Filters(folder="cars"))
    assert names(one) == ["red.mp4"]  # though it need not be the best of all


def test_unknown_filters_name_the_known(opened):
    with pytest.raises(ValueError, match="no file lies in 'anim'; known are mine/animals, mine/cars"):
        opened.search("bread", filters=Filters(folder="anim"))
    with pytest.raises(ValueError, match="no file is in the language 'xx'; known are "):
        opened.search("bread", filters=Filters(language="xx"))
    with pytest.raises(ValueError, match="no file lies in '\"; --'"):
        opened.search("bread", filters=Filters(folder='"; --'))


def test_like_a_file_or_a_second_of_it(opened, videos, monkeypatch):
    dog = str(videos / "animals" / "dog.mp4")
    monkeypatch.chdir(videos)
    assert opened.search(like="animals/dog.mp4@4.5").hits == opened.search(like=f"{dog}@4.5").hits
    assert names(opened.search(like=dog))[0] == names(opened.search(like="mine/animals/dog.mp4"))[0]
    assert opened.search(like=f"{dog}@4.5").hits
    view = opened.view
    chosen = next(k for k in range(len(view)) if view.starts[k] == 2 and view.ends[k] == 5)
    assert np.allclose(opened._like(view, f"{dog}@4.5"), view.means[chosen], atol=1e-6)
    for wrong, message in (
        (
            "none.mp4",
            "none.mp4 is no file of this index; give one as `save-jax search stats LIBRARY --files` lists them",
        ),
        (f"{dog}@late", "'late' after @ is no number of seconds"),
        (f"{dog}@nan", "'nan' after @ is no number of seconds"),
    ):
        with pytest.raises(ValueError, match=message):
            opened.search(like=wrong)
    with pytest.raises(ValueError, match="not both"):
        opened.search("a dog", like=dog)


@pytest.mark.parametrize(
    ("typed", "files"),
    [
        ('"red car"', ["red.mp4"]),
        ('"RED CAR"', ["red.mp4"]),
        ('"car red"', []),
        ('"at the cafe"', ["dog.mp4"]),
        ('"to the CAFÉ"', ["red.mp4"]),
        ("“doesn’t bark”", ["dog.mp4"]),
        ('"doesn\'t bark"', ["dog.mp4"]),
        ('"café, OK"', ["dog.mp4"]),
        ('"bird and bread"', ["red.mp4"]),
        ('"red" "bread"', ["red.mp4"]),
        ('"dog" "bread"', []),
        ('"bre"', []),
        ('a film of a "red car"', ["red.mp4"]),
    ],
)
def test_quoted_words_must_be_said(opened, typed, files):
    answer = opened.search(typed)
    assert names(answer) == files and answer.nothing_relevant == (not files)
    for hit in answer.hits:
        assert plain(words.parse(typed).phrases[0]) in plain(hit.quoted)


def test_quoted_words_of_a_script_without_spaces(tmp_path, embedder):
    write_video(tmp_path / "mine" / "a.mp4", 3, 1, ["我喜欢红色的汽车", "บนชายหาด"])
    made = library.make_library(tmp_path / "lib", embedder, tmp_path / "mine")
    assert names(made.search('"红色的汽车"')) == ["a.mp4"] and names(made.search('"蓝色的汽车"')) == []


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("le cafe\u0301 noir", "LE CAFÉ"),  # accents of their own
        ("le café noir", "le cafe\u0301"),
        ("auf der Straße", "STRASSE"),
        ("η Ελλάδα", "ελλαδα"),
        ("Её дом", "ее дом"),
        ("a " + 60 * "x", 60 * "X"),
        ("don’t go", "DON'T GO"),
        ("see you|tomorrow my friend", "see you tomorrow"),  # in two lines
    ],
)
def test_words_are_found_however_they_are_written(tmp_path, said, asked):
    store = Store.create(str(tmp_path / "lib"), NoModel(), Cut())
    lines = [*said.split("|"), "and so on"]
    row = {"content": "c", "start": 0.0, "end": 2.0}
    store.put([], [], [row | {"number": k, "start": 2.0 * k, "text": line} for k, line in enumerate(lines)])
    words.index(store)
    assert [line.text for line in words.find_phrases(store, [asked])] == lines[:1]
    assert words.find_phrases(store, ["so on and"]) == []


def test_quoted_says_what_holds_all_words(opened):
    for hit in opened.search("a red zebra", evidence="fused").hits:
        assert hit.quoted == ""
    assert {hit.quoted for hit in opened.search("red car", evidence="fused").hits} == {"", "a red car"}
    assert {hit.quoted for hit in opened.search("red car", mute=["speech"]).hits} == {""}


def test_a_cut_off_is_told_where_it_was_measured(opened):
    opened.store.about.cutoff = {"score": 1e9}
    try:
        assert opened.search("a zebra").nothing_relevant and opened.search("a zebra").cutoff == 1e9
        for options in ({"mute": ["audio"]}, {"filters": Filters(folder="cars")}):
            answer = opened.search("a zebra", **options)
            assert not answer.nothing_relevant and answer.cutoff is None
        assert opened.search(like=opened.search("a zebra").hits[0].file).cutoff is None
    finally:
        opened.store.about.cutoff = {}


def test_a_reader_follows_new_roots(changing, embedder, tmp_path):
    _, made = changing
    reader = Library(Store.open(made.store.folder), embedder)
    reader.search("a red car")
    write_video(tmp_path / "second" / "d.mp4", 3, 7, ["a blue boat"])
    library.update(made.store, embedder, tmp_path / "second")
    assert names(reader.search('"blue boat"')) == ["d.mp4"]


@pytest.mark.parametrize("left", [b"", b"short", None], ids=["empty", "cut", "zeros"])
def test_a_derived_file_that_a_power_cut_left_is_made_anew(changing, left):
    _, made = changing
    means, folder = np.array(made.view.means), Path(made.store.folder, "ranking")
    [path] = folder.iterdir()
    if left is None:
        np.save(path, np.zeros_like(means))
    else:
        path.write_bytes(left)
    np.testing.assert_array_equal(ranking.view(made.store).means, means)
    np.testing.assert_array_equal(np.load(path), means)
    assert [*folder.iterdir()] == [path]


def test_a_copy_is_as_good_for_a_judgement(changing, embedder, tmp_path):
    root, made = changing
    for suffix in (".mp4", ".srt"):
        shutil.copy2((root / "a").with_suffix(suffix), (root / "copy").with_suffix(suffix))
    library.update(made.store, embedder)
    path = tmp_path / "queries.csv"
    path.write_text("query,file\na red car,mine/a.mp4\na red car,mine/copy.mp4\n")
    assert judgements.evaluate(made, judgements.read(str(path)))["R@1"] == 100
    path.write_text("query,file\na red car\n")
    with pytest.raises(ValueError, match="line 2: query or file is empty"):
        judgements.read(str(path))


def test_vectors_are_unit_and_finite(opened):
    frames, mask = opened.store.frames(opened.view.table, np.arange(len(opened.view)))
    np.testing.assert_allclose(np.linalg.norm(frames[mask].astype(np.float32), axis=-1), 1, atol=2e-3)


def test_a_phrase_is_found_among_thousands_of_lines(tmp_path):
    """However many hold its words, and score more."""
    store = Store.create(str(tmp_path / "lib"), NoModel(), Cut())
    lines = ["car red car red", *["red car red car"] * 1500, "the one and only red car that has a blue roof of tin"]
    rows = [{"content": "c", "number": k, "start": 0.0, "end": 1.0, "text": line} for k, line in enumerate(lines)]
    store.put([], [], rows)
    words.index(store)
    [found] = words.find_phrases(store, ["only red car"])
    assert found.text == lines[-1]


@pytest.mark.parametrize("typed", ["", "   ", "?!", '""', "\0"])
def test_queries_without_a_word_are_refused(opened, typed):
    with pytest.raises(ValueError, match="the query has no word"):
        opened.search(typed)


@pytest.mark.parametrize(
    "typed", ['"unbalanced', "+a -b (c", "a\x00b\x1b[31m", "' OR 1=1 --", "a AND", "\u202ered", "red*", "🐦"]
)
def test_odd_queries_are_words(opened, typed):
    if typed == "🐦":
        with pytest.raises(ValueError, match="no word"):
            opened.search(typed)
    else:
        assert len(opened.search(typed).hits) > 2


def test_too_many_phrases_are_refused(opened):
    assert opened.search('"red car" ' * 100).hits  # one and the same
    with pytest.raises(ValueError, match="30 quoted phrases; at most 20 are looked for"):
        opened.search(" ".join(f'"red{k}"' for k in range(30)))


def test_the_longest_query(opened):
    assert opened.search(("red car " * 1250).strip().ljust(10_000, "x")).hits
    assert opened.search("x" * 10_000).hits and opened.search(f'"{"red " * 2400}"').nothing_relevant
    with pytest.raises(ValueError, match="the query has 10001 characters; at most 10000 are read"):
        opened.search("x" * 10_001)


@pytest.fixture
def changing(tmp_path, embedder):
    """A library of its own, that a test changes."""
    root = tmp_path / "mine"
    write_video(root / "a.mp4", 3, 1, ["a red car"])
    write_video(root / "b.mp4", 3, 2)
    return root, library.make_library(tmp_path / "lib", embedder, root)


def test_a_file_that_went_after_indexing_is_still_named(changing, tmp_path, embedder):
    root, made = changing
    (root / "a.mp4").unlink()
    answer = made.search("a red car")
    assert set(names(answer)) == {"a.mp4", "b.mp4"} and answer.offline == []
    path = tmp_path / "queries.csv"
    path.write_text("query,file,start,end\na red car,mine/a.mp4,0,3\n")
    assert judgements.evaluate(made, judgements.read(str(path)))["R@10"] == 100
    shutil.rmtree(root)
    root.mkdir()
    assert Library(made.store, embedder).search("a red car").offline == ["mine"]


def test_of_copies_the_one_that_is_asked_for_and_there_is_shown(changing, embedder):
    root, made = changing
    (root / "z").mkdir()
    for suffix in (".mp4", ".srt"):
        shutil.copy2((root / "a").with_suffix(suffix), (root / "z" / "copy").with_suffix(suffix))
    assert library.update(made.store, embedder).embedded == 0
    assert names(made.search('"red car"', filters=Filters(folder="z"))) == ["copy.mp4"]
    (root / "a.mp4").unlink()
    assert names(made.search('"red car"')) == ["copy.mp4"]


def test_a_library_is_read_while_it_is_written(changing, embedder):
    """The reader's version is removed under it; it sees the new one."""
    root, made = changing
    reader = Library(Store.open(made.store.folder), embedder)
    first = reader.search("a red car")
    write_video(root / "c.mp4", 3, 5, ["a red car again"])
    library.update(made.store, embedder)
    for table in made.store.tables:
        table.optimize(cleanup_older_than=library.NO_TIME, delete_unverified=True)
    with pytest.raises(RuntimeError, match="Not found"):
        reader.store.windows.to_arrow()
    again = reader.search("a red car")
    assert len(again.hits) == len(first.hits) + 1 == 3
    assert set(names(reader.search('"red car"'))) == {"a.mp4", "c.mp4"}


def test_a_clean_up_between_view_and_frames_is_survived(changing, embedder, monkeypatch):
    """A writer's moment that no test meets by waiting: between the two reads of one search."""
    root, made = changing
    reader = Library(Store.open(made.store.folder), embedder)
    best, turns = ranking.best, []

    def meanwhile(*given):
        if not turns:
            turns.append(1)
            write_video(root / "c.mp4", 3, 5)
            library.update(made.store, embedder)
            for table in made.store.tables:
                table.optimize(cleanup_older_than=library.NO_TIME, delete_unverified=True)
        return best(*given)

    monkeypatch.setattr(ranking, "best", meanwhile)
    assert len(reader.search("a red car").hits) == 3 and turns


def test_an_empty_library_has_no_answer(tmp_path, embedder):
    (tmp_path / "mine").mkdir()
    made = library.make_library(tmp_path / "lib", embedder, tmp_path / "mine")
    answer = made.search("a red car")
    assert answer.nothing_relevant and answer.hits == []


def test_an_answer_is_plain_data(opened):
    answer = opened.search('"red car"')
    [row] = answer.as_json()
    assert row == dataclasses.asdict(answer.hits[0]) and set(row) >= {"file", "start", "end", "best", "score", "why"}
    nothing = opened.search('"never said"').as_json()
    assert nothing == {"hits": [], "nothing_relevant": True}


def test_the_door_opens_it(opened):
    with pytest.raises(ValueError, match="is no index"):
        save_jax.open_library(os.path.dirname(opened.store.folder))
