"""The page in a real browser: no errors, everything visible, reasons unfold, fits a phone, prints."""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

for _package in ("matplotlib", "jinja2", "pygments"):
    pytest.importorskip(_package)
webdriver = pytest.importorskip("selenium.webdriver")

from tensorprog.api import derive, emit
from tensorprog.report import report_page
from tests.report.pages import EXAMPLES, TRANSFER, checked

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
)  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None,
                       reason="Chromium or its driver is not installed: apt-get install chromium chromium-driver"),
]  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture(scope="module", params=["mlp", "gpt"])
def address(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with every section; that of the GPT without its transfer and check."""
    derivation = derive(EXAMPLES / f"{request.param}.tp", "adam")
    whole = request.param == "mlp"
    check = checked(derivation, parametrization="sp") if whole else None
    text = report_page(derivation, emit(derivation), check, [TRANSFER] if whole else [], {"This": "tpcalc"})
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(text, encoding="utf-8")
    return file.as_uri()


def show(browser: Any, address: str, width: int, *, dark: bool = False) -> None:
    """Load the page in a window of that width."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.get(address)


@pytest.mark.parametrize("width", [400, 1200])
def test_no_errors_and_nothing_is_fetched(browser: Any, address: str, width: int) -> None:
    browser.get_log("browser")
    show(browser, address, width)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0


@pytest.mark.parametrize("width", [400, 1200])
def test_every_section_and_one_of_each_pair_of_pictures_is_visible(browser: Any, address: str, width: int) -> None:
    show(browser, address, width)
    sections = browser.find_elements("css selector", "main section")
    links = [link.get_attribute("href").partition("#")[2] for link in browser.find_elements("css selector", "nav a")]
    assert [section.get_attribute("id") for section in sections] == links
    for section in sections:
        assert section.is_displayed() and section.size["height"] > 80
        assert section.find_element("css selector", "h2").is_displayed()
    wide = [p.is_displayed() for p in browser.find_elements("css selector", ".picture.wide")]
    narrow = [p.is_displayed() for p in browser.find_elements("css selector", ".picture.narrow")]
    assert wide == [width == 1200] * len(wide) and narrow == [width == 400] * len(narrow) == [not w for w in wide]
    for picture in browser.find_elements("css selector", ".picture svg"):
        if picture.is_displayed():
            assert picture.size["width"] > 250 and picture.size["height"] > 100


def test_reasons_unfold_on_a_click(browser: Any, address: str) -> None:
    show(browser, address, 400)
    rows = browser.find_elements("css selector", "main > section#derived > .rows > details.row-box")
    assert len(rows) > 4
    for row in rows[:5]:
        why, chain = (row.find_element("css selector", name) for name in (".why", ".chain pre"))
        assert not why.is_displayed()
        click(browser, row.find_element("css selector", "summary"))
        assert why.is_displayed() and "lr" in why.text and not chain.is_displayed()
        click(browser, row.find_element("css selector", ".chain summary"))
        assert chain.is_displayed() and len(chain.text) > 100
        click(browser, row.find_element("css selector", "summary"))
        assert not why.is_displayed()
    for form in browser.find_elements("css selector", "details.form"):
        table = form.find_elements("css selector", ".rows")
        click(browser, form.find_element("css selector", "summary"))
        assert all(part.is_displayed() for part in table)


def click(browser: Any, element: Any) -> None:
    """As a finger would: at the middle of the element, once it is on the screen and not below the navigation."""
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    element.click()


@pytest.mark.parametrize("width", [320, 400])
def test_no_horizontal_scroll_on_a_phone_even_with_everything_open(browser: Any, address: str, width: int) -> None:
    show(browser, address, width)
    measure = "return [document.documentElement.scrollWidth, document.body.scrollWidth, window.innerWidth]"
    assert browser.execute_script(measure) == [width] * 3
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert browser.execute_script(measure) == [width] * 3


def test_text_and_figures_follow_light_and_dark(browser: Any, address: str) -> None:
    found = []
    for dark in (False, True):
        show(browser, address, 1200, dark=dark)
        script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
        parts = (("body", "backgroundColor"), ("body", "color"), (".graph text", "fill"), (".code .k", "color"))
        found.append([browser.execute_script(script, *part) for part in parts])
    light, dark_ = found
    assert light[0] == "rgb(255, 255, 255)"
    assert all(a != b for a, b in zip(light, dark_, strict=True))


def test_it_prints_with_all_reasons(browser: Any, address: str, tmp_path: Path) -> None:
    show(browser, address, 1200)
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert pdf.startswith(b"%PDF") and len(pdf) > 20_000
    assert pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") >= 2
    opened = browser.execute_script("return document.querySelectorAll('details[open]').length")
    assert opened == 0  # folded again after printing
    if shutil.which("pdftotext"):
        file = tmp_path / "page.pdf"
        file.write_bytes(pdf)
        text = subprocess.run(["pdftotext", str(file), "-"], capture_output=True, text=True, check=True).stdout
        assert "coupled, normalised step" in " ".join(text.split())
