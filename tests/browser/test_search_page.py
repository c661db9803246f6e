"""The page of `save-jax search serve` in a real browser, over a real server and a small index of real videos.

Needs what the report's test needs, and axe, which finds what a screen reader or weak eyes would stumble over.
"""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from helpers import browsing, library
from playwright.sync_api import Browser, Page, expect

from save_jax.search import progress
from save_jax.search.library import Library
from save_jax.search.server.app import make_app
from save_jax.search.server.safety import Limits
from save_jax.search.server.serving import Server, listen
from save_jax.search.store import Store

SENTENCE = "a red car"
HOSTILE = "gpj.\u202eexe <img src=x onerror=alert(1)>\x1b[31m"


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Animals and cars; a file that no browser plays; names that would do harm; a root that went away."""
    folder = tmp_path_factory.mktemp("search")
    mine, away = folder / "mine", folder / "NAS"
    library.write_video(mine / "animals" / "dog.mp4", 5, 1, ["The dog doesn't bark", "at the café, ok", "bread"])
    library.write_video(mine / "animals" / "bird.mp4", 3, 2)
    library.write_video(mine / "cars" / "red.mp4", 8, 3, [SENTENCE, "drives to the cafe", "a red bird and bread"])
    library.write_video(mine / "odd" / "film.mkv", 9, 4, ["opened slowly"])  # HEVC
    library.write_video(
        mine / HOSTILE / f"{HOSTILE}.mp4", 3, 5, ["strange words & <script>alert(2)</script>", "\u202e turned <b>"]
    )
    library.write_video(mine / "long" / ("no_space_in_this_name_" * 9 + ".mp4"), 3, 6)
    library.write_video(away / "2019" / "gone.mp4", 3, 7, ["a film that is elsewhere"])
    embedder = library.make_embedder(tmp_path_factory.mktemp("model"))
    opened = library.make_library(folder / "index", embedder, mine, away)
    os.rename(away, folder / "unplugged")
    return opened


@contextlib.contextmanager
def served(opened: Library, limits: Limits | None = None) -> Iterator[str]:
    """The address of a server that runs meanwhile."""
    socket = listen("127.0.0.1", 0)
    server = Server(make_app(opened, limits=limits), lambda: None)
    thread = threading.Thread(target=server.run, args=([socket],), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        socket.close()
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def url(indexed: Library) -> Iterator[str]:
    with served(indexed) as url:
        yield url


class Visit(browsing.Visit):
    """One to a library's page; at its end it has complained of nothing, and asked nobody but its server."""

    def __init__(self, browser: Browser, url: str, path: str = "/", width: int = 1280, **options: object):
        super().__init__(browser, url + path, width, **options)
        self.url = url

    def __exit__(self, kind: object, *_: object) -> None:
        super().__exit__()
        if kind is None:
            assert self.complaints == []
            assert [request for request in self.requests if not request.startswith((self.url, "data:"))] == []

    @property
    def cards(self):
        return self.page.locator("#hits .card")

    def names(self) -> list[str]:
        expect(self.cards).not_to_have_count(0)
        return self.page.locator("#hits .open bdi").all_inner_texts()

    def open(self, name: str) -> None:
        self.cards.filter(has=self.page.get_by_text(name, exact=True)).first.locator(".open").click()
        expect(self.page.locator("#player-name")).to_have_text(name)

    def plays(self, beyond: float) -> float:
        """The film's second, once it went on by itself past one."""
        self.page.wait_for_function("beyond => document.getElementById('film').currentTime > beyond", arg=beyond)
        return self.page.evaluate("document.getElementById('film').currentTime")


def sober(page: Page) -> None:
    """Nothing is wider than the screen, and axe finds nothing."""
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    beyond = page.evaluate(
        "[...document.querySelectorAll('header *, main *, dialog[open] *')].filter(element => element.checkVisibility()"
        " && !element.matches('.unseen, .skip') && !element.closest('svg, select')"
        " && element.getBoundingClientRect().right > innerWidth + 1).map(element => element.outerHTML.slice(0, 99))"
    )
    assert beyond == []
    found = Axe().run(page).response["violations"]
    assert [(rule["id"], [node["html"][:200] for node in rule["nodes"]]) for rule in found] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_list_player_and_keys_are_sober(browser, url, width, scheme):
    with Visit(browser, url, "/", width, color_scheme=scheme, reduced_motion="reduce") as visit:
        page = visit.page
        expect(page.locator("#holds")).to_contain_text("7 videos")
        expect(page.locator("#can")).to_have_text("The model sees pictures, hears sound and reads what is said.")
        sober(page)
        page.fill("#q", SENTENCE)
        expect(page.locator("#count")).to_contain_text("moments")
        page.locator("#filters summary").click()
        sober(page)
        visit.open("red.mp4")
        page.wait_for_selector("#strip .area")
        visit.plays(0.1)
        page.evaluate("document.getElementById('film').pause()")
        sober(page)
        if width == 390:
            assert page.evaluate("document.getElementById('player').getBoundingClientRect().width") == 390
        else:
            assert visit.cards.first.is_visible()
        page.keyboard.press("?")
        expect(page.locator("#keys")).to_be_visible()
        sober(page)
        page.keyboard.press("Escape")
        expect(page.locator("#keys")).to_be_hidden()
        assert page.locator("#player").is_visible()
        back, text = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        light = [sum(int(x) for x in colour[4:-1].split(",")) for colour in (back, text)]
        assert (light[0] > light[1]) == (scheme == "light") and abs(light[0] - light[1]) > 400


def test_keyboard_alone(browser, url):
    with Visit(browser, url) as visit:
        page = visit.page
        expect(page.locator("#welcome")).to_be_visible()
        page.keyboard.press("/")
        page.keyboard.type(SENTENCE)  # no Enter: a pause is enough
        names = visit.names()
        assert len(names) > 3
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowUp")
        focused = "document.activeElement.closest('.card')?.querySelector('.rank').textContent"
        assert page.evaluate(focused) == "2"
        page.keyboard.press("Enter")
        expect(page.locator("#player-name")).to_have_text(names[1])
        assert page.evaluate(focused) == "2"  # the list keeps the keys
        page.keyboard.press("n")
        expect(page.locator("#player-name")).to_have_text(names[2])
        page.keyboard.press("p")
        page.keyboard.press("p")
        expect(page.locator("#player-name")).to_have_text(names[0])
        expect(page.locator("#previous")).to_be_disabled()
        page.keyboard.press("Escape")
        expect(page.locator("#player")).to_be_hidden()
        assert page.evaluate(focused) == "1"
        page.keyboard.press("/")
        page.keyboard.press("Escape")
        expect(page.locator("#welcome")).to_be_visible()
        assert page.input_value("#q") == "" and page.url == f"{url}/"


def test_a_moment_plays_and_seeks(browser, url, indexed):
    found = indexed.search('"a red bird and bread"').hits[0]
    with Visit(browser, url, "/?q=%22a+red+bird+and+bread%22") as visit:
        page = visit.page
        expect(page.locator(".words.quoted").first).to_contain_text("said “a red bird and bread”")
        visit.open("red.mp4")
        assert found.start > 0
        now = visit.plays(found.start + 0.2)
        assert now < found.end + 1
        expect(page.locator("#to-best")).to_contain_text(f"0:0{found.best:g}")
        cues = "[...document.getElementById('film').textTracks[0].cues].map(cue => cue.text)"
        page.wait_for_function(f"() => {cues}.length === 3")
        assert page.evaluate(cues)[2] == "a red bird and bread"
        track = page.locator("#strip .track")
        assert track.get_attribute("aria-valuemax") == "8"
        page.evaluate("document.getElementById('film').pause()")
        page.keyboard.press("t")
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        page.wait_for_function("() => Math.abs(document.getElementById('film').currentTime - 2) < 0.1")
        assert "0:02 of 0:08, score" in track.get_attribute("aria-valuetext")
        box = track.bounding_box()
        page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 20)
        page.wait_for_function("() => Math.abs(document.getElementById('film').currentTime - 6) < 0.2")
        page.click("#to-start")
        page.wait_for_function(f"() => Math.abs(document.getElementById('film').currentTime - {found.start}) < 0.1")


def test_what_no_browser_plays_is_played_as_a_preview(browser, url):
    with Visit(browser, url, "/?q=%22opened+slowly%22") as visit:
        visit.open("film.mkv")
        assert visit.plays(0.3) < 8
        assert [request for request in visit.requests if "/preview/" in request]
        assert not [request for request in visit.requests if "/media/" in request]
        assert visit.page.evaluate("document.getElementById('film').videoWidth") > 0


def previews(visit: Visit) -> set[str]:
    return {request for request in visit.requests if "/preview/" in request}


def test_a_drag_over_a_preview_seeks_once(browser, url):
    with Visit(browser, url, "/?q=%22opened+slowly%22") as visit:
        page = visit.page
        visit.open("film.mkv")
        visit.plays(0.1)
        page.wait_for_selector("#strip .area")
        first = previews(visit)
        track = page.locator("#strip .track")
        box = track.bounding_box()
        assert len(first) == 1 and track.get_attribute("aria-valuemax") == "9"
        page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 20)
        page.mouse.down()
        for step in range(1, 21):
            page.mouse.move(box["x"] + (0.5 + 0.02 * step) * box["width"], box["y"] + 20)
        page.wait_for_timeout(400)  # the film plays on, and does not draw the marker back
        assert track.get_attribute("aria-valuenow") == "8"
        expect(page.locator("#strip .told")).to_contain_text("0:08.1 of 0:09")
        assert previews(visit) == first
        page.mouse.up()
        film = "document.getElementById('film')"
        page.wait_for_function(f"() => {film}.readyState > 0 && {film}.src.includes('start=8')")
        second = previews(visit)
        assert len(second) == 2
        page.keyboard.press("t")
        for key in ["Home", *["ArrowRight"] * 6]:
            page.keyboard.press(key)
        page.wait_for_function(f"() => {film}.readyState > 0 && {film}.src.includes('start=6')")
        assert len(previews(visit)) == 3
        visit.open("film.mkv")
        page.wait_for_timeout(300)
        assert len([request for request in visit.requests if "/along" in request]) == 1


def test_a_second_click_while_a_preview_is_made_asks_for_no_other(browser, url):
    with Visit(browser, url, "/?q=%22opened+slowly%22") as visit:
        page, held, made = visit.page, [], []
        page.route("**/preview/**", lambda route: route.continue_() if made else held.append(route))
        visit.open("film.mkv")
        page.wait_for_selector("#strip .area")
        for button in ("#to-best", "#to-start", "#to-best"):
            page.click(button)
        page.wait_for_timeout(300)
        assert len(held) == 1 and len(previews(visit)) == 1
        made.append(True)
        held[0].continue_()
        visit.plays(0.1)
        assert len(previews(visit)) == 1


def test_a_film_that_failed_is_loaded_again(browser, url):
    with Visit(browser, url, "/?q=%22opened+slowly%22") as visit:
        page = visit.page
        answer = {"status": 503, "content_type": "application/json", "body": '{"detail": "no film can be made now"}'}
        page.route("**/preview/**", lambda route: route.fulfill(**answer))
        visit.open("film.mkv")
        expect(page.locator("#film-trouble")).to_have_text("no film can be made now")
        assert page.locator("#film").is_hidden()
        page.wait_for_selector("#strip .area")
        page.unroute("**/preview/**")
        page.keyboard.press("t")
        page.keyboard.press("End")  # the last second: nothing lies behind the end
        film = "document.getElementById('film')"
        page.wait_for_function(f"() => {film}.src.includes('start=8') && {film}.currentTime > 0")
        assert page.locator("#film-trouble").is_hidden() and page.locator("#film").is_visible()
        page.click("#to-start")
        page.wait_for_function(f"() => {film}.src.endsWith('start=0') && {film}.currentTime > 0.1")
        assert page.locator("#film-trouble").is_hidden()
        assert visit.complaints and all("503" in line for line in visit.complaints)
        visit.complaints.clear()


def test_keys_of_one_character_can_be_turned_off(browser, url):
    with Visit(browser, url, f"/?q={SENTENCE.replace(' ', '+')}") as visit:
        page = visit.page
        names = visit.names()
        page.keyboard.press("?")
        page.locator("#keys .switch").click()
        expect(page.locator("#characters")).not_to_be_checked()
        sober(page)
        page.keyboard.press("Escape")
        for again in (False, True):
            if again:
                page.reload()  # it is kept
                assert visit.names() == names
            before = page.url
            page.evaluate("document.activeElement.blur()")
            for key in "2/?":
                page.keyboard.press(key)
            assert page.url == before and page.locator("#keys").is_hidden()
            assert page.evaluate("document.activeElement === document.body")
            page.keyboard.press("ArrowDown")
            page.keyboard.press("Enter")
            expect(page.locator("#player-name")).to_have_text(names[0])
            page.keyboard.press("n")
            page.wait_for_timeout(200)
            assert page.inner_text("#player-name") == names[0]
            page.keyboard.press("Escape")
            expect(page.locator("#player")).to_be_hidden()
        page.click("#show-keys")
        page.locator("#keys .switch").click()
        page.keyboard.press("Escape")
        page.keyboard.press("2")
        expect(page.locator("#count")).to_contain_text("without sound")


def test_a_muted_sense_ranks_anew(browser, url, indexed):
    every = [hit.name for hit in indexed.search(SENTENCE, 20).hits]
    with Visit(browser, url, f"/?q={SENTENCE.replace(' ', '+')}") as visit:
        page, before = visit.page, visit.names()
        assert page.locator(".moved").count() == 0 and len(before) == len(every)
        page.keyboard.press("2")
        expect(page.locator("#count")).to_contain_text("without sound")
        assert page.url.endswith("&mute=audio")
        wanted = indexed.search(SENTENCE, 20, mute=["audio"]).hits
        assert visit.names() == [
            os.path.basename(hit.name) if HOSTILE not in hit.name else visit.names()[k] for k, hit in enumerate(wanted)
        ]
        moves = page.locator(".moved").all_inner_texts()
        assert len(moves) == len(wanted) and any("▲" in move for move in moves) and any("▼" in move for move in moves)
        starts = [(hit.name, hit.start, hit.end) for hit in indexed.search(SENTENCE, 20).hits]
        for rank, (hit, move) in enumerate(zip(wanted, moves, strict=True)):
            was = next(
                (
                    k
                    for k, (name, start, end) in enumerate(starts)
                    if name == hit.name and start < hit.end and end > hit.start
                ),
                None,
            )
            if was is not None and was != rank:
                assert f"{'▲' if was > rank else '▼'} {abs(was - rank)}" in move
        assert page.locator(".card").first.locator(".why li").count() == 2
        page.locator(".switch").nth(0).click()
        expect(page.locator("#count")).to_contain_text("without picture and sound")
        last = page.get_by_role("switch", name="speech")
        page.keyboard.press("3")
        expect(last).to_be_checked()  # one stays on
        page.go_back()
        page.go_back()
        expect(page.locator("#count")).not_to_contain_text("without")
        assert visit.names() == before and page.locator(".moved").count() == 0


def test_an_address_holds_all_and_can_be_shared(browser, url):
    with Visit(browser, url) as visit:
        page = visit.page
        page.fill("#q", "the dog")
        page.press("#q", "Enter")
        visit.names()
        page.locator("#filters summary").click()
        page.select_option("select[name=folder]", "mine/animals")
        page.fill("input[name=longer]", "0:04")
        page.press("input[name=longer]", "Enter")
        expect(page.locator("#filter-count")).to_have_text(" (2 on)")
        expect(page.locator("#hits .open bdi").filter(has_not_text="dog.mp4")).to_have_count(0)
        assert set(visit.names()) == {"dog.mp4"}
        page.locator(".switch").nth(1).click()
        expect(page.locator("#count")).to_contain_text("without sound")
        visit.open("dog.mp4")
        address, name = page.url, page.inner_text("#player-place")
        for part in ("q=the+dog", "folder=mine%2Fanimals", "longer=4", "mute=audio", "open="):
            assert part in address
        with Visit(browser, url, address.removeprefix(url)) as other:
            expect(other.page.locator("#player-name")).to_have_text("dog.mp4")
            assert other.page.inner_text("#player-place") == name
            assert other.page.input_value("#q") == "the dog"
            assert not other.page.get_by_role("switch", name="sound").is_checked()
            expect(other.page.locator(".card.current")).to_have_count(1)
        page.go_back()
        expect(page.locator("#player")).to_be_hidden()
        assert "open=" not in page.url
        visit.open("dog.mp4")
        page.click("#similar")
        expect(page.locator("#like")).to_contain_text("Similar to dog.mp4")
        assert "like=" in page.url and visit.names()[0] == "dog.mp4"
        page.goto(f"{url}/?q=dog&open={'f' * 24}@0")
        expect(page.locator("#trouble")).to_contain_text("The moment of this link is not in the library any more.")
        assert visit.names() and len(visit.complaints) == 1  # the browser's own line of a 404
        visit.complaints.clear()
        page.locator("#filters summary").click()
        page.fill("input[name=shorter]", "soon")
        page.press("input[name=shorter]", "Enter")
        expect(page.locator("#filter-note")).to_contain_text("“soon” is no length")


def test_nothing_relevant_is_said(browser, url, indexed, monkeypatch):
    monkeypatch.setitem(indexed.store.about.cutoff, "score", 1000.0)
    with Visit(browser, url, f"/?q={SENTENCE[2:].replace(' ', '+')}s+of+another+kind") as visit:
        expect(visit.page.locator("#nothing")).to_contain_text("below the cut-off of 1000.0: nine of ten answers")
        expect(visit.page.locator("#count")).to_contain_text("Nothing relevant.")
        assert visit.names()
        visit.page.fill("#q", '"never said by anyone"')
        expect(visit.page.locator("#nothing")).to_contain_text("Nobody says these words")
        assert visit.cards.count() == 0
        visit.page.goto(f"{url}/?q=dog&after=2100-01-01")
        expect(visit.page.locator("#nothing")).to_contain_text("No moment is within these filters.")


def test_a_date_that_is_none_is_left_out(browser, url):
    with Visit(browser, url, "/?q=dog&after=2024-02-30") as visit:
        expect(visit.page.locator("#trouble")).to_contain_text("“2024-02-30” in the address is no date")
        assert visit.names() and not [request for request in visit.requests if "after=N" in request]
        visit.page.fill("#q", "a dog")
        expect(visit.page).to_have_title("a dog – index")
        expect(visit.page.locator("#trouble")).to_be_hidden()


@pytest.mark.parametrize("status", [500, 503])
def test_a_failing_server_is_not_asked_in_a_loop(browser, url, status):
    with Visit(browser, url) as visit:
        page = visit.page
        expect(page.locator("#welcome")).to_be_visible()
        answer = {"status": status, "content_type": "application/json", "body": '{"detail": "the index is damaged"}'}
        page.route("**/api/*", lambda route: route.fulfill(**answer))
        visit.requests.clear()
        page.reload()
        expect(page.locator("#trouble")).to_have_text("the index is damaged")
        page.wait_for_timeout(2000)
        asked = [request for request in visit.requests if request.endswith("/api/library")]
        assert 2 <= len(asked) <= 4  # by the page, at once, a second later
        assert visit.complaints and all(str(status) in line for line in visit.complaints)
        visit.complaints.clear()


def test_a_busy_server_is_asked_again(browser, indexed):
    with served(indexed, Limits(searches=1, burst=1)) as url, Visit(browser, url, "/?q=dog") as visit:
        visit.names()
        visit.page.fill("#q", "bird")
        visit.page.press("#q", "Enter")
        expect(visit.page.locator("#trouble")).to_contain_text("The server is busy. Asking again in 1 s.")
        assert visit.names()
        expect(visit.page.locator("#trouble")).to_be_hidden()
        expect(visit.page).to_have_title("bird – index")
        assert visit.complaints and all("429" in line for line in visit.complaints)
        visit.complaints.clear()


def test_a_file_that_is_away_is_found_and_not_played(browser, url):
    with Visit(browser, url, "/?q=%22elsewhere%22") as visit:
        expect(visit.cards.first).to_contain_text("offline: cannot be played")
        expect(visit.page.locator("#offline")).to_contain_text("Offline now: NAS")
        visit.open("gone.mp4")
        expect(visit.page.locator("#film-trouble")).to_contain_text("This file is offline")
        assert visit.page.locator("#film").is_hidden() and visit.page.locator("#to-start").is_disabled()
        visit.page.wait_for_function("() => document.getElementById('still').naturalWidth > 0")
        sober(visit.page)
        assert not [request for request in visit.requests if "/media/" in request or "/preview/" in request]


@pytest.mark.parametrize("width", [390, 1280])
def test_hostile_names_are_text(browser, url, width):
    with Visit(browser, url, "/?q=%22strange+words%22", width) as visit:
        page = visit.page
        name = page.locator("#hits .open bdi").first
        assert name.text_content() == "gpj.⟨U+202E⟩exe <img src=x onerror=alert(1)>⟨U+001B⟩[31m.mp4"
        assert "\u202e" not in page.locator("#hits").text_content()
        name.click()
        expect(page.locator("#player-place")).to_contain_text("⟨U+202E⟩")
        assert page.locator("#hits script, #hits b b, #player script, [onerror]").count() == 0
        page.locator("#player-close").click()
        page.goto(f"{url}/?q=x&folder=%E2%80%AE%3Cb%3E")
        expect(page.locator("#trouble")).to_contain_text("no file lies in")
        assert page.locator("#trouble b").count() == 0 and "\u202e" not in page.locator("#trouble").text_content()
        assert any("400" in complaint for complaint in visit.complaints)
        visit.complaints.clear()  # the browser's own line for an answer that is no success
        page.goto(f"{url}/?q={SENTENCE.replace(' ', '+')}&folder=mine%2Flong", wait_until="load")
        visit.names()
        sober(page)


def test_the_page_lives_through_news_and_silence(browser, indexed, tmp_path):
    library.write_video(tmp_path / "mine" / "one.mp4", 3, 1)
    opened = library.make_library(tmp_path / "index", indexed.embedder, tmp_path / "mine")
    with served(opened) as url, Visit(browser, url, "/?q=a+bird", reduced_motion="reduce") as visit:
        page = visit.page
        assert set(visit.names()) == {"one.mp4"}
        other = visit.context.new_page()
        other.goto(url)
        other.locator(".chip").last.focus()
        page.wait_for_timeout(500)  # they listen
        library.write_video(tmp_path / "mine" / "two.mp4", 3, 2)
        library.update(Store.open(str(tmp_path / "index")), indexed.embedder, tmp_path / "mine")
        expect(page.locator("#changed")).to_contain_text("2 videos now", timeout=15_000)
        expect(other.locator("#holds")).to_contain_text("2 videos", timeout=15_000)
        expect(other.locator(".chip").last).to_be_focused()
        other.close()
        page.get_by_role("button", name="Search again").click()
        expect(page.locator("#changed")).to_be_hidden()
        assert set(visit.names()) == {"one.mp4", "two.mp4"}
        with progress.telling(opened.store.folder, 200) as tell:
            tell(100, "mine/two\u202e.mp4")
            expect(page.locator("#indexing")).to_contain_text("50 %", timeout=15_000)
            expect(page.locator("#indexing-file")).to_have_text("mine/two⟨U+202E⟩.mp4")
            sober(page)
        expect(page.locator("#indexing")).to_be_hidden(timeout=15_000)
        visit.context.set_offline(True)
        page.fill("#q", "a car")
        expect(page.locator("#gone")).to_contain_text("The server does not answer", timeout=15_000)
        assert set(visit.names()) == {"one.mp4", "two.mp4"}  # what is shown stays
        visit.context.set_offline(False)
        expect(page.locator("#gone")).to_be_hidden(timeout=15_000)
        expect(page).to_have_title("a car – index")
        expect(page.locator("#count")).to_contain_text("moment")
        assert visit.complaints and all("ERR_INTERNET_DISCONNECTED" in line for line in visit.complaints)
        visit.complaints.clear()


def test_no_markup_is_made_of_text():
    for path in Path(make_app.__code__.co_filename).parent.glob("*.js"):
        for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser"):
            assert way not in path.read_text(encoding="utf-8"), path
