from __future__ import annotations

import math
from pathlib import Path

import pytest

from isodistill.errors import IsodistillError
from isodistill.isomers import IsomerSet, generate, make_config, read_split
from isodistill.isomers.audit import surface_probe, wilson_interval


def rows(out: Path, **values: object) -> list[IsomerSet]:
    config = make_config(sets=400, validation_sets=0, test_sets=0, domains=("law", "math"), unseen_domains=(), **values)
    generate(config, out)
    return read_split(out, "train")


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> list[IsomerSet]:
    return rows(tmp_path_factory.mktemp("audit") / "honest")


def test_honest_data_tells_nothing_and_a_shortcut_tells_all(honest: list[IsomerSet], tmp_path: Path) -> None:
    cued = rows(tmp_path / "cued", shortcut={"rate": {"law": 0.9, "math": 1 / 3}})
    for domain in ("law", "math"):
        assert not surface_probe(honest, domain).beats_chance
    law, math_ = surface_probe(cued, "law"), surface_probe(cued, "math")
    assert law.leaks
    assert law.accuracy > 0.7
    assert not math_.leaks
    assert law.texts == 400
    assert math.isclose(law.chance, 134 / 400)


def test_too_few_texts_are_an_error(honest: list[IsomerSet]) -> None:
    with pytest.raises(IsodistillError, match="at least 50 texts of the domain 'law', there are 20"):
        surface_probe(honest[:20], "law")
    with pytest.raises(IsodistillError, match="domain 'science', there are 0"):
        surface_probe(honest, "science")


def test_the_interval_is_wilsons() -> None:
    low, high = wilson_interval(8, 10)
    assert low == pytest.approx(0.4902, abs=1e-4)
    assert high == pytest.approx(0.9433, abs=1e-4)
    assert wilson_interval(0, 10)[0] == pytest.approx(0.0, abs=1e-12)
