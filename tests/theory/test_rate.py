"""The measured rate as a result: the choice of the step size, the round trip, the picture, the documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isodistill.errors import IsodistillError
from isodistill.theory.chart import rate_chart
from isodistill.theory.convergence import DIRECTIONS, Problem, fit_rate, measure_rates
from isodistill.theory.rate import STEP_SIZES, RateReport, measure_rate, rate_rows

SMALL = Problem(domains=3, outputs=4, inputs=5, rank=2, samples=12, batch=2)
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def report() -> RateReport:
    return measure_rate(SMALL, (16, 8), seeds=2)


def test_the_step_size_is_the_one_that_serves_plain_sgd_best_elsewhere(report: RateReport) -> None:
    assert [candidate for candidate, _ in report.tuning] == list(STEP_SIZES)
    assert report.step_size == min(report.tuning, key=lambda pair: pair[1])[0]
    other = Problem(domains=3, outputs=4, inputs=5, rank=2, samples=12, batch=2, seed=1)
    for candidate, norm in report.tuning:
        found = measure_rates(other, (8, 16), seeds=4, step_size=candidate, directions=("sgd",))[0]
        assert norm == pytest.approx(np.mean(found.gradient[1]), rel=1e-12)


def test_the_rates_are_those_of_the_function_and_the_file_gives_them_back(report: RateReport) -> None:
    assert report.rates == measure_rates(SMALL, (8, 16), seeds=2, step_size=report.step_size)
    assert RateReport.model_validate_json(report.model_dump_json()) == report


def test_a_given_step_size_is_taken_and_every_step_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    report = measure_rate(SMALL, (8, 16), 2, step_size=3.0, progress=lambda *event: told.append(event))
    assert report.step_size == 3.0
    assert report.tuning == []
    assert told == [(name, done, 24) for name in DIRECTIONS for done in (0, 8, 24)]


def test_the_rows_say_whether_the_goal_is_met(report: RateReport) -> None:
    rates = [
        rate.model_copy(update={"slope": (-0.45, -0.5, -0.4), "slope_of_gradient": (-0.4499, -0.5, -0.4)})
        for rate in report.rates
    ]
    rows = rate_rows(report.model_copy(update={"rates": rates}))
    assert len(rows) == 6
    assert {row[1]: row[4] for row in rows} == {"the true gradient": "no", "the direction followed": "yes"}


def test_the_picture_holds_every_point(report: RateReport) -> None:
    chart = rate_chart(report)
    assert len(chart.rows) == 3 * 2 * 2
    mean = next(row[3] for row in chart.rows if row[:3] == ["mask", "the direction followed", 16])
    assert mean == pytest.approx(np.mean(report.rates[1].followed[1]))
    svg = chart.svg()
    assert ">mask and projection<" in svg
    assert ">slope -1/2<" in svg
    assert "mathdefault" not in svg


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"steps": (8,)}, "at least two different"),
        ({"steps": (8, 8)}, "at least two different"),
        ({"steps": ()}, "at least two different"),
        ({"steps": (0, 8)}, "1 or more"),
        ({"seeds": 1}, "seeds=1"),
        ({"tau": -1.0}, "tau=-1.0"),
        ({"tau": float("nan")}, "tau=nan"),
        ({"step_size": 0.0}, "step size 0.0"),
        ({"step_size": 1e300}, "smaller step size"),
        ({"step_size": 1.0, "tau": 1e300}, "smaller step size or tau"),
    ],
)
def test_what_cannot_be_measured_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(IsodistillError, match=told):
        measure_rate(SMALL, **({"steps": (8, 16), "seeds": 2} | options))


def test_the_documentation_shows_what_the_files_hold() -> None:
    text = (DOCS / "theory.md").read_text(encoding="utf-8")
    names = ("theory-rate", *(f"theory-rate-{name}" for name in ("long", "c8", "c128", "seed2")))
    reports = [RateReport.model_validate_json((DOCS / f"{name}.json").read_text(encoding="utf-8")) for name in names]
    for report in reports:
        for rate in report.rates:
            assert rate.slope == pytest.approx(fit_rate(rate.steps, np.asarray(rate.followed)))
            assert rate.slope_of_gradient == pytest.approx(fit_rate(rate.steps, np.asarray(rate.gradient)))
    for row in rate_rows(reports[0]):
        assert f"| {' | '.join(row)} |" in text
    for rows in zip(*map(rate_rows, reports[1:]), strict=True):
        assert f"| {rows[0][0]} | {rows[0][1]} | {' | '.join(row[2] for row in rows)} |" in text
