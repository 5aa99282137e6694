"""The page in a real browser: nothing is loaded, nothing runs, and axe finds no fault.

It needs the package playwright, a Chromium (ISODISTILL_CHROMIUM, or one on the path) and axe-core's ``axe.min.js``
(ISODISTILL_AXE).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_helpers import make_panel

from isodistill.report import Panel, build_pages

pytestmark = pytest.mark.browser

CHROMIUM = os.environ.get("ISODISTILL_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
AXE = os.environ.get("ISODISTILL_AXE", "")
ATTACK = "</p><script>document.title='owned'</script><img src='http://192.0.2.1/x' onerror=\"document.title='owned'\">"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    if not CHROMIUM:
        pytest.skip("no Chromium: set ISODISTILL_CHROMIUM")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    panel = make_panel()
    for runs in panel.groups.values():
        for item in runs[0].evaluation.items:
            item.completion = ATTACK + item.completion
    groups = {f"{label} {ATTACK}" if label == "vrex" else label: runs for label, runs in panel.groups.items()}
    second = Panel("data: other", groups, "erm", samples=300)
    out = tmp_path_factory.mktemp("page") / "report.html"
    return build_pages(
        [Panel("data: main", groups, "erm", samples=300), second], out, "A title", "isodistill ...", "{}"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1400])
def test_the_page_in_a_browser(browser: Any, page_file: Path, width: int, scheme: str) -> None:
    assert page_file.stat().st_size < 3_000_000
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    requests: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(page_file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert [url for url in requests if not url.startswith("data:")] == [page_file.as_uri()]
    assert said == []
    assert page.title() == "A title"
    assert ATTACK in page.evaluate("document.body.textContent")
    assert page.evaluate("document.documentElement.scrollWidth") <= width  # the page itself never scrolls sideways
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1400])
def test_axe_finds_nothing(browser: Any, page_file: Path, width: int, scheme: str) -> None:
    if not AXE:
        pytest.skip("no axe-core: set ISODISTILL_AXE to its axe.min.js")
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.goto(page_file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    page.evaluate(Path(AXE).read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document)")["violations"]
    assert [(each["id"], each["impact"], each["nodes"][0]["target"]) for each in found] == []
    context.close()
