"""The page of a board in a real browser: Chromium without a screen, as Debian packages it."""

import re
import shutil
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest
from example_boards import full_board, full_section

from genrec_bench.boards.html_page import to_html

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# A browser that was never started talks to its maker at first; this one is to stay silent.
SWITCHES = (
    "--headless=new",
    # A container's user is often root, for whom the sandbox refuses to start.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

MEAN, RANK = 3, 4
"""Columns of the first table: NDCG@10 and the rank by it, behind two gains."""

QUALITY = "[aria-label='Quality at the equal budget']"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page beside records, as the command leaves them."""
    folder = tmp_path_factory.mktemp("boards with a space")
    for section in full_board().sections:
        for link in (link for row in section.rows for link in row.links):
            record = folder / link.path
            record.parent.mkdir(parents=True, exist_ok=True)
            record.write_text("{}")
    path = folder / "industrial.html"
    path.write_text(to_html(full_board()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser of its own, without a history."""
    binary = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("Chromium and its driver (Debian: chromium, chromium-driver) are not here")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


@pytest.fixture
def opened(browser: Any, page: Path) -> Any:
    """The page on a desk, in light mode."""
    show(browser, 1280, 800, "light")
    browser.get(page.as_uri())
    browser.get_log("browser")
    return browser


def show(browser: Any, width: int, height: int, mode: str) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
    )
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": mode}]},
    )


def names(browser: Any) -> list[str]:
    """The first table's lines in the order in which they are shown."""
    heads = browser.find_elements("css selector", f"#track-1 {QUALITY} tbody th")
    return [head.get_attribute("data-sort") for head in heads]


def head(browser: Any, column: int) -> Any:
    return browser.find_elements("css selector", f"#track-1 {QUALITY} thead th")[column]


def test_nothing_goes_wrong_and_nothing_is_asked_for(browser: Any, page: Path) -> None:
    browser.get(page.as_uri())
    assert browser.get_log("browser") == []
    loaded = browser.execute_script(
        "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    )
    assert [name for name in loaded if not name.startswith("data:")] == []


def test_script_from_a_record_does_not_run_even_unescaped(browser: Any, tmp_path: Path) -> None:
    evil = "<script>document.title = 'taken'</script>"
    html = to_html(full_board()).replace("<h1>", f"{evil}<h1 onclick='this.id = 1'>")
    assert evil in html
    path = tmp_path / "evil.html"
    path.write_text(html, encoding="utf-8")
    browser.get(path.as_uri())
    assert browser.title == "industrial · genrec-bench"
    refused = [entry["message"] for entry in browser.get_log("browser")]
    assert any("Content Security Policy" in message for message in refused)


def test_a_click_sorts_and_the_third_one_undoes_it(opened: Any) -> None:
    first = names(opened)
    means = {row.name: row.means.get("NDCG@10") for row in full_section().rows}
    known = [name for name in first if means[name] is not None]
    best = sorted(known, key=lambda name: -(means[name] or 0.0))
    cell = head(opened, MEAN)
    assert cell.get_attribute("aria-sort") == "none"
    states = []
    for _ in range(3):
        cell.find_element("tag name", "button").click()
        states.append((cell.get_attribute("aria-sort"), names(opened)))
    # Without a number, it is last in either order.
    failed = "ugr (confidence=token)"
    assert states == [
        ("descending", [*best, failed]),
        ("ascending", [*reversed(best), failed]),
        ("none", first),
    ]
    assert best[0] == "ceiling" and best != known


def test_the_keyboard_sorts_as_well(opened: Any) -> None:
    button = head(opened, 0).find_element("tag name", "button")
    opened.execute_script("arguments[0].focus()", button)
    assert opened.switch_to.active_element == button
    button.send_keys("\ue007")  # Enter
    assert head(opened, 0).get_attribute("aria-sort") == "ascending"
    found = names(opened)
    assert found == sorted(found, key=str.lower)
    button.send_keys(" ")
    assert names(opened) == found[::-1]


def test_one_column_sorts_at_a_time_and_other_tables_stay(opened: Any) -> None:
    for column in (1, MEAN, -1):
        head(opened, column).find_element("tag name", "button").click()
        sorted_by = opened.find_elements("css selector", "[aria-sort]:not([aria-sort=none])")
        assert [each.get_attribute("aria-sort") for each in sorted_by] == ["descending"]


@pytest.mark.parametrize("width", [320, 360, 390, 768, 1280])
def test_only_tables_scroll_sideways(opened: Any, width: int) -> None:
    show(opened, width, 740, "light")
    opened.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true })")
    scrolled, inner = opened.execute_script(
        "return [document.documentElement.scrollWidth, innerWidth]"
    )
    assert inner == width
    assert scrolled <= inner
    shown = opened.execute_script(
        "return [...document.querySelectorAll('svg.curves')]"
        ".filter((chart) => chart.getBoundingClientRect().width > 0)"
        ".map((chart) => chart.classList[1])"
    )
    assert shown == ["narrow" if width <= 640 else "wide"]


def test_links_lead_to_records(opened: Any, page: Path) -> None:
    links = "return [...document.querySelectorAll('main a')].map((link) => link.href)"
    hrefs = opened.execute_script(links)
    assert len(hrefs) > 40
    for href in hrefs:
        assert href.startswith("file:")
        assert Path(unquote(urlparse(href).path)).is_file()
    anchors = opened.execute_script(
        "return [...document.querySelectorAll('nav a')]"
        ".map((link) => !!document.querySelector(link.hash))"
    )
    assert anchors == [True, True, True]


def test_dark_mode_is_dark_and_both_modes_can_be_read(opened: Any, page: Path) -> None:
    for mode, dark in (("light", False), ("dark", True)):
        show(opened, 1280, 800, mode)
        paper = brightness(opened, "body", "backgroundColor")
        assert (paper < 0.1) is dark
        for selector in ("body", "small", ".failure", "summary", ".lead", "td.missed", ".flag"):
            ink = brightness(opened, selector, "color")
            low, high = sorted((paper, ink))
            # Small text needs this contrast, by the accessibility guidelines' own formula.
            assert (high + 0.05) / (low + 0.05) >= 4.5, (mode, selector)


def brightness(browser: Any, selector: str, kind: str) -> float:
    """Relative luminance of a colour: 0 is black, 1 is white."""
    text = browser.execute_script(
        "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]",
        selector,
        kind,
    )
    parts = [int(part) / 255 for part in text.strip("rgb()").split(",")[:3]]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_on_paper_it_takes_at_most_four_pages(opened: Any) -> None:
    found = opened.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    pages = re.findall(rb"/Type\s*/Page\b", b64decode(found["data"]))
    assert 1 <= len(pages) <= 4


def test_the_first_press_on_rank_shows_the_best_first(opened: Any) -> None:
    ranks = {row.name: row.ranks.get("NDCG@10") for row in full_section().rows}
    cell = head(opened, RANK)
    assert cell.text.startswith("Rank")
    cell.find_element("tag name", "button").click()
    shown = [rank for name in names(opened) if (rank := ranks[name]) is not None]
    assert shown == sorted(shown)
    assert cell.get_attribute("aria-sort") == "ascending"
    assert ranks[names(opened)[-1]] is None, "what has no rank is last"


@pytest.mark.parametrize("width", [390, 360])
def test_algorithm_gain_and_interval_are_seen_on_a_phone(opened: Any, width: int) -> None:
    show(opened, width, 740, "light")
    right = opened.execute_script(
        "return [...document.querySelectorAll(`#track-1 ${arguments[0]} tbody td:nth-child(2)`)]"
        ".map((cell) => Math.max(...[cell.firstElementChild, ...cell.querySelectorAll('small')]"
        ".filter(Boolean).map((each) => each.getBoundingClientRect().right)))",
        QUALITY,
    )
    seen = [edge for edge in right if edge is not None]
    assert len(seen) > 5 and max(seen) <= width


@pytest.mark.parametrize("width", [360, 390, 500])
def test_claims_are_read_on_a_phone_without_scrolling(browser: Any, root: Path, width: int) -> None:
    show(browser, width, 740, "light")
    browser.get((root / "leaderboards" / "claims.html").as_uri())
    for cells in (".verdicts td", ".world :is(td, th):nth-child(-n + 3)"):
        edges = browser.execute_script(
            "return [...document.querySelectorAll(arguments[0])].map("
            "(cell) => { const range = document.createRange(); range.selectNodeContents(cell);"
            " return range.getBoundingClientRect().right })",
            cells,
        )
        assert len(edges) > 20 and max(edges) <= width, cells


def test_claims_fit_on_paper(browser: Any, root: Path) -> None:
    show(browser, 1032, 740, "light")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.get((root / "leaderboards" / "claims.html").as_uri())
    script = "return [...document.querySelectorAll('table')].map((t) => t.scrollWidth)"
    assert max(browser.execute_script(script)) <= 1032
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_without_scripts_all_is_there_but_the_buttons(browser: Any, page: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(page.as_uri())
        assert not browser.find_elements("css selector", "th button")
        lines = browser.find_elements("css selector", f"#track-1 {QUALITY} tbody tr")
        assert len(lines) == len(full_section().rows)
        assert "0.0819" in lines[1].text
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
