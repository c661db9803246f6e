"""The report page in a real browser: quiet, offline, filtered, within a phone's width. Needs chromium and playwright.

    pip install -r tests/browser/requirements.txt && pytest -n 0 tests/browser

helpers/browsing.py says how the browser is found.
"""

from pathlib import Path

import pytest
from helpers import browsing
from helpers.made_run import HOSTILE, hostile_clip, make_run

from save_jax.inference import run_page


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    workdir = make_run(tmp_path_factory.mktemp("made"), "vision,audio,speech", [hostile_clip(n) for n in range(9)])
    return run_page.write_page(str(workdir), queries=8).resolve().as_uri()


class Visit(browsing.Visit):
    """One to the report."""

    def shown(self) -> list[str]:
        return [card.get_attribute("id") for card in self.page.locator("article.card:visible").all()]


def test_quiet_offline_and_not_taken_over(browser, url):
    with Visit(browser, url) as visit:
        visit.page.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
        visit.page.wait_for_function("[...document.images].every(image => image.complete)")
        assert visit.page.evaluate("[...document.images].filter(image => !image.naturalWidth).length") == 0
        assert visit.complaints == []
        assert [request for request in visit.requests if not request.startswith("data:")] == [url]
        assert visit.page.title() == "SAVE on made, test split"
        # The policy holds for what escaping might miss, too.
        visit.page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=http://evil.example/ onerror=1>')")
        visit.page.wait_for_timeout(200)
        assert any("Content Security Policy" in complaint for complaint in visit.complaints)


def test_right_videos_are_marked_and_captions_are_text(browser, url):
    with Visit(browser, url) as visit:
        for card in visit.page.locator("article.card").all():
            right = card.locator("li.video.right")
            assert right.count() == 1 and "✓ right" in right.inner_text()
            wrong = card.locator("li.video:not(.right) .name").all_inner_texts()
            assert not [name for name in wrong if "✓" in name]
            rank = card.locator(".badge").nth(1).inner_text().removeprefix("right video: rank ")
            assert right.locator(".name b").inner_text().startswith(f"{rank}. ")
        titles = visit.page.locator("article.card h3").all_inner_texts()
        assert any(HOSTILE[0] in title for title in titles)


def test_filter(browser, url):
    with Visit(browser, url) as visit:
        page, everything = visit.page, visit.shown()
        assert len(everything) == 8
        groups = page.locator("select[name=group] option").all_inner_texts()[1:]
        assert sorted(groups) == ["sound", "speech", "vision"]
        seen = []
        for group in groups:
            page.select_option("select[name=group]", label=group)
            found = visit.shown()
            assert found and {page.locator(f"#{card}").get_attribute("data-group") for card in found} == {group}
            assert page.locator("#count").inner_text() == f"{len(found)} of 8 queries"
            seen += found
        assert sorted(seen) == sorted(everything)
        page.select_option("select[name=group]", value="")
        failed, first = [], []
        for outcome, cards in (("yes", failed), ("no", first)):
            page.select_option("select[name=outcome]", value=outcome)
            cards += visit.shown()
        assert failed and sorted(failed + first) == sorted(everything)
        page.select_option("select[name=outcome]", value="")
        page.fill("input[name=words]", "$5 QUOTED")
        assert visit.shown() and all("$5" in page.locator(f"#{card} h3").inner_text() for card in visit.shown())
        page.fill("input[name=words]", "no such words")
        assert visit.shown() == []
        page.fill("input[name=words]", "")
        assert visit.shown() == everything
        page.press("input[name=words]", "Enter")
        assert page.url == url


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 390, 1280])
def test_nothing_is_wider_than_the_screen(browser, url, width, scheme):
    with Visit(browser, url, width, color_scheme=scheme) as visit:
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
        beyond = visit.page.evaluate(
            "[...document.querySelectorAll('main *, header *')]"
            ".filter(element => !element.closest('.scroll, .strip, pre')"
            " && element.getBoundingClientRect().right > innerWidth + 1).map(element => element.outerHTML.slice(0, 99))"
        )
        assert beyond == []
        # Within a video's box nothing sticks out either.
        assert visit.page.evaluate(
            "[...document.querySelectorAll('.video')].filter(box => box.scrollWidth > box.clientWidth + 1).length"
        ) == 0  # fmt: skip
        back, text = visit.page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        light = [sum(int(x) for x in colour[4:-1].split(",")) for colour in (back, text)]
        assert (light[0] > light[1]) == (scheme == "light") and abs(light[0] - light[1]) > 400


def test_without_javascript_everything_is_there(browser, url):
    with Visit(browser, url, java_script_enabled=False) as visit:
        assert visit.page.locator("article.card").count() == 8
        assert visit.page.locator("article.card").last.is_visible()
        assert not visit.page.locator("#filter").is_visible()


def test_the_page_is_small(url):
    assert Path(url.removeprefix("file://")).stat().st_size < 8e6
