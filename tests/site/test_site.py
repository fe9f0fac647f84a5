"""The site in a real browser: every page is walked, and its moving parts are moved.

SITE=_docs takes a site that is there already; without it, one is built for these tests. The walker is itself tested, on broken pages.
"""
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, need
from walker import CHROMIUM, FLAGS, SETTLED, listen, serve, walk

BUILD = ["-E", "-q", "-b", "html", "-W", "--keep-going", "-c", "docs", "nbs"]


@pytest.fixture(scope="module")
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        need(False, "playwright (the extra `dev`)")
    need(Path(CHROMIUM).exists(), f"{CHROMIUM} (Debian's package chromium)")
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(browser, tmp_path_factory):
    "The folder of a built site."
    if os.environ.get("SITE"):
        folder = Path(os.environ["SITE"]).resolve()
        assert (folder / "index.html").is_file(), f"SITE={folder} has no index.html: run `make site`"
        return folder
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run([sys.executable, "-m", "sphinx", *BUILD, str(folder)], cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-4000:]
    return folder


@pytest.fixture
def opened(browser, site):
    "A function that opens a page of the site; the test fails if anything goes wrong on it."
    faults, context = [], browser.new_context(viewport={"width": 1280, "height": 900})
    with serve(site) as base:
        def opener(name):
            page = context.new_page()
            listen(page, base, faults)
            page.goto(base + name)
            page.evaluate(SETTLED)
            return page
        yield opener
        context.close()
    assert faults == []


def pages_with(site, text):
    "The pages that hold a text, notebooks only."
    return [p.relative_to(site).as_posix() for p in sorted(site.glob("*/*.html")) if p.parent.name[0].isdigit() and text in p.read_text("utf-8")]


# ---- the site --------------------------------------------------------------------------------------------------------

def test_every_page_is_sound(browser, site):
    report, walked = walk(browser, site)
    assert report == {}, "\n".join(f"{name}: {fault}" for name, faults in report.items() for fault in faults)
    assert walked > len(list((ROOT / "nbs").rglob("[!.]*.ipynb"))), "pages are missing"


def test_every_notebook_is_in_the_navigation(opened):
    links = opened("index.html").evaluate("[...document.querySelectorAll('.bd-links a')].map(a => a.getAttribute('href'))")
    notebooks = [p.relative_to(ROOT / "nbs").with_suffix(".html").as_posix() for p in (ROOT / "nbs").rglob("*.ipynb")
                 if ".ipynb_checkpoints" not in p.parts and p.stem != "index"]
    assert sorted(set(notebooks) - set(links)) == []


def test_the_button_of_an_animation_changes_its_frame(opened, site):
    names = pages_with(site, "anim-controls")
    assert names, "no page has an animation"
    for name in names:
        page = opened(name)
        film = page.locator(".animation").first
        frame = film.locator("img").first
        before = frame.get_attribute("src")
        film.locator(".anim-buttons button").first.scroll_into_view_if_needed()
        film.locator("button[title='First frame']").click()
        film.locator("button[title='Next frame']").click()
        assert frame.get_attribute("src") != before or film.locator("input[type=range]").input_value() == "1", name
        stepped = frame.get_attribute("src")
        film.locator("button[title='Play']").click()
        page.wait_for_function("([i, src]) => i.src !== src", arg=[frame.element_handle(), stepped], timeout=5000)


def test_a_solution_unfolds(opened, site):
    names = pages_with(site, "<summary>Solution")
    assert names, "no page has a solution"
    fold = opened(names[0]).locator("details:has(> summary:text('Solution'))").first
    assert not fold.evaluate("d => d.open")
    inside = fold.locator("pre").first
    assert not inside.is_visible()
    fold.locator("summary").click()
    assert fold.evaluate("d => d.open") and inside.is_visible()


@pytest.mark.parametrize("word", ["KMeans", "聚合"])
def test_search_finds(opened, word):
    page = opened("search.html?q=" + word)
    page.wait_for_selector("#search-results li a", timeout=10000)
    assert page.locator("#search-results li a").count() > 0


def test_search_opens_from_the_keyboard(opened):
    page = opened("index.html")
    page.keyboard.press("Control+k")
    page.locator("#pst-search-dialog input").fill("aggregation")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li a", timeout=10000)


def test_dark_mode(opened):
    page = opened("notation.html")
    ground = "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).slice(0, 3).map(Number).reduce((a, b) => a + b)"
    for mode in ("dark", "light", "dark"):
        page.locator("button.theme-switch-button").click()
        page.locator(f".theme-change-button[data-mode={mode}]").click()
        assert page.evaluate("document.documentElement.dataset.theme") == mode
        assert (page.evaluate(ground) < 200) == (mode == "dark")
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark", "the choice is not kept"


def test_pages_open_from_the_disk(browser, site):
    page = browser.new_page()
    faults = []
    listen(page, "file://", faults)
    page.goto((site / "notation.html").as_uri())
    page.evaluate(SETTLED)
    assert page.locator("mjx-container").count() > 50
    page.goto((site / "search.html").as_uri() + "?q=KMeans")
    page.wait_for_selector("#search-results li a", timeout=10000)
    page.close()
    assert faults == []


# ---- the walker ------------------------------------------------------------------------------------------------------

BROKEN = {
    "dead link: gone.html": '<a href="gone.html">gone</a>',
    "dead anchor: broken.html#nowhere": '<a href="#nowhere">nowhere</a>',
    "console: oh no": "<script>console.error('oh no')</script>",
    "script: thrown": "<script>throw new Error('thrown')</script>",
    "status 404: ": '<img src="gone.png">',
    "picture: ": '<img src="data:image/png;base64,AAAA">',
    "another host: http://127.0.0.2": '<script src="http://127.0.0.2:9/a.js"></script>',
    "pixels wide on a screen of": '<div style="width: 2000px">wide</div>',
    "mathematics not set: ": '<span class="math">x</span>',
}


@pytest.mark.parametrize("fault", BROKEN)
def test_the_walker_sees(browser, tmp_path, fault):
    page = "<!doctype html><html><head><meta charset='utf-8'><link rel='icon' href='data:,'></head><body>%s</body></html>"
    (tmp_path / "broken.html").write_text(page % BROKEN[fault])
    (tmp_path / "sound.html").write_text(page % "<h1 id='top'>Sound</h1><a href='#top'>top</a> <a href='sound.html'>here</a>")
    report, walked = walk(browser, tmp_path)
    assert walked == 2 and set(report) == {"broken.html"}
    assert any(fault in line for line in report["broken.html"]), report


def test_the_walker_sees_bad_tex(browser, site, tmp_path):
    (tmp_path / "tex-chtml.js").write_bytes((site / "_static" / "mathjax" / "tex-chtml.js").read_bytes())
    (tmp_path / "broken.html").write_text(
        "<!doctype html><html><head><link rel='icon' href='data:,'><script>MathJax = {chtml: {fontURL: ''}}</script>"
        "<script src='tex-chtml.js'></script></head><body>\\(\\frac{1}{2} \\left(\\)</body></html>")
    report, _ = walk(browser, tmp_path)
    assert any(line.startswith("TeX: ") for line in report["broken.html"]), report

