"""The report in a browser: everything shows, and nothing sticks out, on a desktop and on a phone."""

from __future__ import annotations

import shutil

import pytest

pytest.importorskip("matplotlib", reason="the extra report is not installed")
pytest.importorskip("selenium", reason="selenium is not installed")
pytest.importorskip("tabulate", reason="the extra report is not installed")

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

from experiments.compare.page import write_comparison
from experiments.report import write_report
from tests.compare_report_helpers import make_comparison
from tests.report_helpers import make_run

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDTHS = (1280, 400)
LOADED = "return document.readyState === 'complete' && location.href === arguments[0]"

FIGURES = """
return [...document.querySelectorAll("figure svg")].map(svg => {
  const box = svg.getBoundingClientRect();
  const ink = svg.getBBox();
  const texts = [...svg.querySelectorAll("text")].filter(t => t.getBoundingClientRect().width > 0);
  const outside = texts.filter(t => {
    const r = t.getBoundingClientRect();
    return r.left < box.left - 2 || r.right > box.right + 2 || r.top < box.top - 2 || r.bottom > box.bottom + 2;
  });
  return {
    name: svg.querySelector("title").textContent,
    width: box.width, height: box.height, ink: ink.width * ink.height,
    texts: texts.map(t => t.textContent),
    outside: outside.map(t => t.textContent),
    left: box.left, right: box.right,
  };
});
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNN_ANML_CACHE", str(folder / "cache"))
        runs = [make_run(folder / "first").path, make_run(folder / "second", seed=2, twin=False).path]
        one = write_report(runs[:1], folder / "one.html")
        compared = write_comparison(make_comparison(folder / "compared"))
        return {"one": one, "several": write_report(runs, folder / "several.html"), "compared": compared}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed (Debian: chromium, chromium-driver)")
    options = Options()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    yield browser
    browser.quit()


@pytest.fixture(params=[(name, width) for name in ("one", "several", "compared") for width in WIDTHS], ids=str)
def shown(request, browser, report):
    """The browser with a page open at a width, and the width."""
    name, width = request.param
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get_log("performance")
    browser.get(report[name].as_uri())
    # On a busy machine the driver may return before the page has been read to its end.
    WebDriverWait(browser, 60).until(lambda b: b.execute_script(LOADED, report[name].as_uri()))
    return browser, width


def test_every_figure_shows_with_its_text_inside(shown):
    browser, width = shown
    figures = browser.execute_script(FIGURES)
    assert len(figures) >= 15
    for figure in figures:
        assert figure["width"] > 200, figure["name"]
        assert figure["height"] > 60, figure["name"]
        assert figure["ink"] > 0, figure["name"]
        assert figure["texts"], figure["name"]
        assert figure["outside"] == [], figure["name"]
        assert 0 <= figure["left"] < figure["right"] <= width, figure["name"]


def test_text_of_figures_can_be_read(shown):
    browser, _ = shown
    smallest = browser.execute_script(
        "return Math.min(...[...document.querySelectorAll('figure svg text')].map(t =>"
        " parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a || 99))"
    )
    assert smallest >= 7


def test_nothing_sticks_out_and_nothing_complains(shown):
    browser, width = shown
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.get_log("browser") == []


def test_nothing_is_loaded_but_the_page(shown):
    browser, _ = shown
    requests = [
        entry["message"] for entry in browser.get_log("performance") if "Network.requestWillBeSent" in entry["message"]
    ]
    assert requests
    assert all('"url":"file:' in r or '"url":"data:' in r for r in requests)


def test_colours_follow_the_dark_scheme(browser, report):
    ink = {}
    for scheme in ("light", "dark"):
        features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
        browser.get(report["one"].as_uri())
        ink[scheme] = browser.execute_script(
            "return [getComputedStyle(document.body).backgroundColor,"
            " getComputedStyle(document.querySelector('figure svg text')).fill]"
        )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert ink["light"][0] != ink["dark"][0]
    assert ink["light"][1] != ink["dark"][1]
