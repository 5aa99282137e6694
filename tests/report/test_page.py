from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from report_helpers import make_panel, make_run

from isodistill.errors import IsodistillError
from isodistill.report import build_report
from isodistill.report.example import pick_example
from isodistill.report.page import render_report
from isodistill.report.panel import Panel, panel_of_runs
from isodistill.report.runs import RunSummary
from isodistill.report.verdict import interval

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Collects the elements, their attributes and all text, and checks the nesting."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def runs() -> list[RunSummary]:
    return [
        make_run("erm", "erm", seed=1),
        make_run("iga", "iga", seed=2, shift=0.2, diagnostics=True),
        make_run("vrex", "vrex", seed=3),
    ]


@pytest.fixture(scope="module")
def html(runs: list[RunSummary]) -> str:
    return render_report([panel_of_runs(runs)], "A title", "isodistill demo --seed 0", '{"name": "a study"}')


def test_the_page_loads_nothing_and_runs_nothing(html: str) -> None:
    page = Page(html)
    visible = re.sub(r"base64,[^\"]*", "", html)
    assert "http://" not in visible
    assert "https://" not in visible
    assert "@import" not in html
    names = {tag for tag, _ in page.elements}
    assert not names & {"script", "iframe", "link", "object", "embed", "form", "base", "img"}
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href", "action", "srcset", "poster", "data"):
                assert value is not None
                saved = ("data:text/csv;base64,", "data:image/svg+xml;base64,") if "download" in attributes else ()
                assert value.startswith(("#", "data:image/png;base64,", *saved)), (tag, name, value)
    assert len(page.named("image")) == 3  # two heat maps and their colour bar are pictures inside the page
    policy = next(a["content"] for a in page.named("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert re.findall(r"url\((?!#)", html) == []


def test_ids_are_unique_and_every_reference_has_its_target(html: str) -> None:
    page = Page(html)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = re.findall(r'(?:url\(#|href="#|aria-labelledby=")([^")]+)', html)
    assert len(references) > 20
    assert set(references) <= set(ids)


def test_it_can_be_read_without_seeing_it(html: str) -> None:
    page = Page(html)
    assert page.named("html")[0]["lang"] == "en"
    assert len(page.named("h1")) == 1
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert len(page.named("caption")) == len(page.named("table")) > 20
    assert all(a.get("scope") in ("row", "col") for a in page.named("th"))
    pictures = [a for _, a in page.elements if a.get("role") == "img"]
    assert len(pictures) == len(page.named("svg")) == 7
    assert len(page.named("details")) == len(page.named("summary"))
    assert page.named("a")[0] == {"class": "skip", "href": "#content"}
    saved = [a for a in page.named("a") if "download" in a]
    assert len(saved) >= 7
    assert all(a["aria-label"] for a in saved)
    assert all(len(a["aria-label"] or "") > 40 for a in pictures)
    assert all(a["aria-hidden"] == "true" for a in page.named("svg"))


def test_the_parts_come_in_order(html: str) -> None:
    page = Page(html)
    order = [
        "A title",
        "out of distribution",
        "What to keep in mind",
        "Differences out of distribution",
        "Accuracy by split",
        "In distribution and outside",
        "Consistency within isomer sets",
        "All measures",
        "Conflict and mask",
        "Learning curves",
        "One isomer set side by side",
        "Settings",
        "How to rerun",
        "isodistill demo --seed 0",
        "The full configuration",
    ]
    text = page.text[page.text.index("Skip to the content") :]
    # The list of contents names some of them too: look behind it.
    body = text[text.index("What to keep in mind") :]
    positions = [body.index(part) for part in order[2:]]
    assert positions == sorted(positions)
    assert text.index("out of distribution") < text.index("What to keep in mind")


def test_the_tables_hold_the_numbers(html: str, runs: list[RunSummary]) -> None:
    measure = panel_of_runs(runs).measure("ood_accuracy")
    assert measure is not None
    assert all(interval(group) in html for group in measure.groups.values())
    text = Page(html).text
    for run in runs:
        for result in run.evaluation.splits.values():
            assert f"{100 * result.accuracy.value:.1f}% [" in text
    assert "lora.alpha 16 16 16" in text
    assert "training tokens 41,000 41,000 41,000" in text
    assert "seed ≠ 1 2 3" in text


def test_no_number_is_missing_or_infinite(html: str) -> None:
    assert re.search(r"\b(nan|NaN|inf|Infinity|None)\b", html) is None


def test_hostile_text_stays_text(runs: list[RunSummary]) -> None:
    attack = "</p><script>alert('x')</script><img src=x onerror=alert(1)> \x00\x1b[31m \ud800 {{ 7*7 }} $\\frac{1}{2}$ "
    hostile = [run.model_copy(deep=True) for run in runs]
    hostile[1].name = "iga --><script>1</script> $x$"
    hostile[1].settings = {"<b>key</b>": "<i onclick=1>", "path": "' autofocus onfocus=1 x='"}
    for run in hostile:
        for item in run.evaluation.items:
            item.completion = attack + item.completion
            item.prompt = "<svg onload=alert(2)>" + item.prompt
            if not item.correct:
                item.extracted = '"><script>2</script>'
    command = "echo '<script>' && rm -rf \"$HOME\""
    text = render_report([panel_of_runs(hostile)], "<title>&", command, "<script>3</script>")
    page = Page(text)
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "img", "b", "i"})
    assert len(page.named("svg")) == 7
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert "<script>alert('x')</script>" in page.text  # as text
    assert "{{ 7*7 }}" in page.text
    assert "<i onclick=1>" in page.text
    assert "echo '<script>' && rm -rf \"$HOME\"" in page.text
    assert "\x00" not in text
    text.encode("utf-8")
    assert text.count("iga --&gt;&lt;script&gt;1&lt;/script&gt; $x$") > 5


def test_it_is_written_at_once_and_is_small(tmp_path: Path, runs: list[RunSummary]) -> None:
    out = build_report(runs, tmp_path / "deep" / "report.html", "T", "cmd")
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]
    assert out.stat().st_size < 3_000_000
    before = out.read_bytes()
    assert build_report(runs, out, "T", "cmd").read_bytes() == before  # the same runs, the same page
    with pytest.raises(IsodistillError, match="at least one run"):
        build_report([], out)
    with pytest.raises(IsodistillError, match="Two runs are called 'erm'"):
        build_report([runs[0], runs[0]], out)
    assert out.read_bytes() == before


def test_a_long_run_makes_no_large_page() -> None:
    long = make_run("iga", "iga", diagnostics=True)
    long.diagnostics = [{**long.diagnostics[step % 60], "step": step} for step in range(20_000)]
    long.log_history = [{"step": step, "loss": 1.0 + step % 7} for step in range(20_000)]
    assert len(render_report([panel_of_runs([make_run("erm"), long])], "T")) < 3_000_000


def test_several_panels_stand_under_their_titles() -> None:
    grown = {
        data: [
            run.model_copy(update={"domains": [str(n) for n in range(k)]}, deep=True)
            for run in (make_run("erm", n_sets=12), make_run("iga", "iga", seed=1, n_sets=12))
        ]
        for data, k in (("two", 2), ("four", 4))
    }
    panels = [
        Panel(f"data: {data}", {run.name: [run] for run in runs}, "erm", sweep="as given, lab", samples=300)
        for data, runs in grown.items()
    ]
    html = render_report(panels, "T")
    page = Page(html)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {"p1-top", "p2-top", "scaling"} <= set(ids)
    assert "With 95% intervals. More domains bring more text too" in page.text


def test_only_what_is_significant_over_seeds_is_bold() -> None:
    panel = make_panel()
    page = render_report([panel], "T")
    rows = re.findall(r'<tr class="significant">\s*<th scope="row">(\w+)', page)
    assert "iga" in rows
    assert "erm" not in rows
    single = Panel("", {label: runs[:1] for label, runs in panel.groups.items()}, "erm", samples=300)
    assert 'class="significant"' not in render_report([single], "T")


def test_data_that_do_not_fit_are_left_to_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    panel = panel_of_runs([make_run("erm"), make_run("iga", "iga", seed=1)])
    assert "data:text/csv" in render_report([panel], "T")
    monkeypatch.setattr("isodistill.report.page.MOST_BYTES", 1000)
    assert "data:text/csv" not in render_report([panel], "T")


def test_one_run_with_little_to_show() -> None:
    run = make_run("iga", "iga")
    run.log_history = [{"step": 1, "loss": float("nan")}, {"step": 2, "grad_norm": float("inf")}]
    run.diagnostics = [{"step": 1, "mean_mask": None, "conflict": {"lm_head": 1.0, "layers.0.q_proj": float("nan")}}]
    page = Page(render_report([panel_of_runs([run])], "T"))
    assert "Nothing is compared: there is no baseline run called 'erm'" in page.text
    assert "No run recorded gradient conflict or a mask." in page.text
    assert "No run logged a loss." in page.text
    assert "No command was recorded." in page.text


def test_the_example_is_the_first_disagreement_of_an_unseen_domain(runs: list[RunSummary]) -> None:
    example = pick_example(runs)
    assert example is not None
    assert example.split == "unseen_domain"
    assert example.disagreement
    tables = [
        {(item.set_id, item.domain): item.correct for item in run.evaluation.items if item.split == "unseen_domain"}
        for run in runs
    ]
    disagreeing = sorted({set_id for set_id, domain in tables[0] if len({t[set_id, domain] for t in tables}) > 1})
    assert example.set_id == disagreeing[0]
    assert [member.domain for member in example.members] == ["finance", "cooking"]
    assert [reply.run for reply in example.members[0].replies] == ["erm", "iga", "vrex"]
    # Where the runs agree on the first sets, the first on which they do not is shown.
    agreeing = [run.model_copy(deep=True) for run in runs]
    for run in agreeing:
        for item in run.evaluation.items:
            if item.set_id in disagreeing[:2]:
                item.correct = False
    later = pick_example(agreeing)
    assert later is not None
    assert later.set_id == disagreeing[2]
    alone = pick_example(runs[:1])
    assert alone is not None
    assert not alone.disagreement
    empty = runs[0].model_copy(deep=True, update={"name": "empty"})
    empty.evaluation.items = []
    assert pick_example([runs[0], empty]) is None


def test_very_long_rationales_are_cut() -> None:
    run = make_run()
    for item in run.evaluation.items:
        item.completion = "word " * 1000 + "\nAnswer: True"
    example = pick_example([run])
    assert example is not None
    assert example.members[0].replies[0].rationale.endswith("(3499 more characters)")
