"""studies/run_depth.py asks what it says it asks, and docs/depth.md is what its raw results say."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path
from random import Random
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml
from precise_muon import PreciseMuon, orthogonalised

from isodistill.answers import split_completion
from isodistill.isomers.families import FAMILIES

ROOT = Path(__file__).resolve().parents[2]
torch.set_num_threads(1)


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "studies" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pydantic looks annotations up there
    spec.loader.exec_module(module)
    return module


RUN, WRITE = load("run_depth"), load("write_depth")
PROTOCOL = RUN.read_protocol(RUN.PROTOCOL)
PART = RUN.RESULTS.with_name("part.json")

asked = pytest.mark.skipif(not WRITE.RESULTS.is_file(), reason="make depth has not been run to its end")


@asked
def test_the_page_is_written_from_the_raw_results(tmp_path: Path) -> None:
    WRITE.main(tmp_path)
    for name in ("depth.md", "depth.svg"):
        assert (tmp_path / name).read_text() == (ROOT / "docs" / name).read_text(), "run make results"


@asked
def test_the_raw_results_are_those_of_the_protocol() -> None:
    raw = json.loads(WRITE.RESULTS.read_text())
    assert raw["protocol"] == PROTOCOL.model_dump(mode="json")
    assert set(raw["right"]) == set(PROTOCOL.families) == set(FAMILIES)
    for family, by_depth in raw["right"].items():
        assert list(by_depth) == [str(depth) for depth in RUN.asked_depths(PROTOCOL, family)]
        for by_seed in by_depth.values():
            assert list(by_seed) == [str(seed) for seed in PROTOCOL.seeds]
            assert {len(marks) for marks in by_seed.values()} == {PROTOCOL.problems}


@pytest.mark.skipif(not PART.is_file(), reason="the study is finished: docs/depth.md holds its numbers")
def test_what_is_finished_so_far_is_of_the_protocol() -> None:
    raw = json.loads(PART.read_text())
    assert raw["protocol"] == PROTOCOL.model_dump(mode="json")
    for by_depth in raw["right"].values():
        assert {len(marks) for by_seed in by_depth.values() for marks in by_seed.values()} == {PROTOCOL.problems}


@pytest.mark.parametrize("name", ["part.json", "fifth_version.json"])
def test_what_is_finished_so_far_stands_in_the_docs(name: str) -> None:
    file = PART.with_name(name)
    if not file.is_file():
        pytest.skip("the study is finished: docs/depth.md holds its numbers")
    raw, page = json.loads(file.read_text()), (ROOT / "docs" / "isomers.md").read_text()
    for family in raw["right"]:
        found = WRITE.trend(family, raw)
        values = [f"{100 * each.value:.1f}" for each in found.by_depth.values()]
        slope = f"{100 * found.slope.value:+.1f} [{100 * found.slope.low:+.1f}, {100 * found.slope.high:+.1f}]"
        assert f"| {family} | {' | '.join(values)} | {slope} | {WRITE._p_text(found.p)} |" in page


@pytest.mark.parametrize("name", ["part.json", "fifth_version.json"])
def test_the_unknown_problems_are_as_hard_as_the_docs_say(name: str) -> None:
    file = PART.with_name(name)
    if not file.is_file():
        pytest.skip("the study is finished: docs/depth.md holds its numbers")
    right, spans = json.loads(file.read_text())["right"], []
    for family in ("deduction", "statute"):
        assert RUN.make_family(family, PROTOCOL.families[family]).classes[2] == "Unknown"
        marks = [right[family][depth]["64"][2::3] for depth in "1234"]
        shares = [100 * each.count("1") / len(each) for each in marks]
        spans.append(f"{min(shares):.0f} to {max(shares):.0f}%")
    said = f"{spans[0]} in deduction and {spans[1]} in statute"
    assert said in " ".join((ROOT / "docs" / "isomers.md").read_text().split())


def test_what_problems_without_decoys_gave_stands_in_the_docs() -> None:
    right = json.loads(RUN.RESULTS.with_name("without_decoys.json").read_text())["right"]
    for family in ("deduction", "syllogism"):
        (marks,) = zip(*(by_seed.values() for by_seed in right[family].values()), strict=True)
        values = [f"{100 * each.count('1') / len(each):.1f}" for each in marks]
        said = f"{family} {', '.join(values[:3])} and {values[3]}, then {values[4]} and {values[5]}"
        assert said in " ".join((ROOT / "docs" / "isomers.md").read_text().split())


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_answers_are_balanced_and_given_by_the_solutions(family: str) -> None:
    asked = RUN.asked_problems(PROTOCOL.model_copy(update={"problems": 12}), family, 2)
    answers = Counter(problem.answer if not problem.answer.isdigit() else int(problem.answer) % 2 for problem in asked)
    assert len(set(answers.values())) == 1
    assert all(split_completion(problem.completion)[1] == problem.answer for problem in asked)


def test_training_shows_no_problem_that_is_asked_in_whatever_order() -> None:
    # With four words of each sort a problem of one step is soon met again.
    few = PROTOCOL.model_copy(
        update={
            "words": 4,
            "words_of": {},
            "families": {"deduction": {"distractors": [0, 0], "distractor_kinds": "mixed"}},
        }
    )

    def shown(group: str) -> set[tuple[str, ...]]:
        problems = [RUN.draw_problem(few, Random(n), "deduction", 1, n, group) for n in range(1500)]
        return {tuple(sorted(problem.prompt.replace("\n", ". ").split(". "))) for problem in problems}

    taught, asked = shown("train"), shown("test")
    assert len(taught) < 1000  # some were drawn twice
    assert taught.isdisjoint(asked)


def test_no_depth_is_taught_less_often_than_another(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, int]] = []
    monkeypatch.setattr(RUN, "draw_problem", lambda _p, _rng, family, depth, _turn, group: drawn.append((group, depth)))
    for number in range(2000):
        RUN.training_problem(PROTOCOL, 61, number)
    counts = Counter(drawn)
    assert set(counts) == {("train", depth) for depth in (1, 2, 3, 4)}
    assert min(counts.values()) > 440


@pytest.mark.parametrize("shape", [(24, 24), (48, 24), (24, 48)])
def test_the_optimizer_is_muon_without_its_rounding(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.full(shape, 0.1)) for _ in range(2))
    pair = (
        PreciseMuon([ours], lr=0.02, weight_decay=0.01),
        torch.optim.Muon([theirs], lr=0.02, weight_decay=0.01),
    )
    start = ours.detach().clone()
    for _ in range(5):
        gradient = torch.randn(shape, generator=generator)
        for weight, optimizer in zip((ours, theirs), pair, strict=True):
            weight.grad = gradient.clone()
            optimizer.step()
    moved = (ours - start).norm()
    assert moved > 0.1
    assert (ours - theirs).norm() < 0.03 * moved  # bfloat16 has three digits


def test_the_singular_values_come_near_1() -> None:
    matrix = torch.randn(32, 64, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalised(matrix))
    assert values.min() > 0.6
    assert values.max() < 1.3
    # The vectors stay: the product with the matrix' own polar factor is symmetric.
    left, _, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    inner = left.T @ orthogonalised(matrix).double() @ right.T
    torch.testing.assert_close(inner, torch.diag(inner.diagonal()), rtol=0, atol=1e-4)


def test_a_tiny_run_goes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RUN, "_SAMPLES", 60)
    tiny = PROTOCOL.model_dump(mode="json") | {
        "student": {"hidden_size": 16, "intermediate_size": 16, "layers": 1, "heads": 2},
    }
    tiny |= {"steps": 8, "batch_size": 2, "problems": 6, "max_new_tokens": 4, "seeds": [1, 2], "depths": [1, 2]}
    tiny |= {"beyond": 1}
    (tmp_path / "protocol.yaml").write_text(yaml.safe_dump(tiny))
    RUN.main(tmp_path / "protocol.yaml", tmp_path / "results.json", tmp_path / "work")
    first = (tmp_path / "results.json").read_text()
    assert set(json.loads(first)["right"]["counting"]["3"]) == {"1", "2"}
    # Side by side, and what a cut-off run has finished is not run again.
    part = json.loads(first)
    del part["right"]["counting"], part["right"]["ordering"]
    (tmp_path / "part.json").write_text(json.dumps(part))
    RUN.main(tmp_path / "protocol.yaml", tmp_path / "results.json", tmp_path / "work", workers=2)
    assert (tmp_path / "results.json").read_text() == first
    assert not (tmp_path / "part.json").is_file()
    WRITE.main(tmp_path, tmp_path / "results.json")
    assert "in 0 of 7 families" in (tmp_path / "depth.md").read_text()  # it has learned nothing


def raw_results(shares: list[float], problems: int = 120) -> dict[str, object]:
    marks = ["1" * round(share * problems) + "0" * (problems - round(share * problems)) for share in shares]
    protocol = {"families": {"deduction": {}}, "problems": problems, "seeds": [0], "depths": [1, 4]}
    by_depth = {str(depth): {"0": each} for depth, each in enumerate(marks, start=1)}
    return {"protocol": protocol, "versions": {}, "right": {"deduction": by_depth}}


def test_a_fall_is_told_from_a_level_line() -> None:
    falling = WRITE.trend("deduction", raw_results([0.9, 0.8, 0.7, 0.6]))
    assert falling.slope.value == pytest.approx(-0.1)
    assert falling.slope.low < -0.1 < falling.slope.high < 0
    assert falling.p < 1e-6
    assert falling.chance == pytest.approx(1 / 3)
    assert "in 1 of 1 families" in WRITE.verdict({"deduction": falling})
    assert "not taught" not in WRITE.verdict({"deduction": falling})
    level = WRITE.trend("deduction", raw_results([0.7, 0.7, 0.7, 0.7]))
    assert level.slope.low < 0 < level.slope.high
    assert level.p == pytest.approx(1)
    assert "not shown to fall in deduction" in WRITE.verdict({"deduction": level})


def test_depths_that_were_not_taught_are_shown_and_do_not_count_in_the_trend() -> None:
    level = WRITE.trend("deduction", raw_results([0.7, 0.7, 0.7, 0.7, 0.2]))
    assert level.by_depth[5].value == pytest.approx(0.2)
    assert level.slope.value == pytest.approx(0)
    assert level.p == pytest.approx(1)
    assert "depth 5, not taught" in WRITE.table({"deduction": level}, raw_results([0.7]))[0]
    assert "below every one that was in deduction" in WRITE.verdict({"deduction": level})
    # A family that ends sooner leaves its cell empty.
    table = WRITE.table(
        {"statute": WRITE.trend("deduction", raw_results([0.7] * 4)), "deduction": level}, raw_results([0.7])
    )
    assert "depth 5, not taught" in table[0]
    assert table[2].count("| - |") == 1
    assert "| - |" not in table[3]
    partly = WRITE.trend("deduction", raw_results([0.7, 0.7, 0.7, 0.3, 0.4]))
    assert "below every one that was in none" in WRITE.verdict({"deduction": partly})


def test_the_trend_test_is_that_of_the_textbook() -> None:
    rng = np.random.default_rng(0)
    right = {depth: (rng.random(50) < 0.8 - 0.1 * depth).astype(float) for depth in (1, 2, 3)}
    n, share = 150, np.concatenate(list(right.values())).mean()
    statistic = sum(depth * (marks.sum() - 50 * share) for depth, marks in right.items())
    variance = share * (1 - share) * (50 * (1 + 4 + 9) - (50 * 6) ** 2 / n)
    from scipy.stats import norm

    assert WRITE.cochran_armitage(right) == pytest.approx(2 * norm.sf(abs(statistic) / variance**0.5))
    assert WRITE.cochran_armitage({1: np.ones(4), 2: np.ones(4)}) == 1
