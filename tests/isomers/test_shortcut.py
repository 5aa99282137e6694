from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from pydantic import ValidationError

from isodistill.errors import IsodistillError
from isodistill.isomers.packs import load_pack
from isodistill.isomers.shortcut import CueMode, Shortcut, check_packs, cue_text


def drawn(shortcut: Shortcut, mode: CueMode, domain: str = "law", true_class: int = 1) -> Counter[int]:
    return Counter(shortcut.draw_class(Random(f"{mode}{domain}{i}"), true_class, 3, domain, mode) for i in range(3000))


def test_cues_agree_at_the_given_rate_and_err_evenly() -> None:
    counts = drawn(Shortcut(rate=0.8), "as_trained")
    assert abs(counts[1] / 3000 - 0.8) < 0.03
    assert abs(counts[0] - counts[2]) < 120


def test_rates_may_differ_by_domain() -> None:
    shortcut = Shortcut(rate={"law": 1.0, "math": 0.0})
    assert drawn(shortcut, "as_trained") == {1: 3000}
    assert 1 not in drawn(shortcut, "as_trained", "math")
    with pytest.raises(IsodistillError, match="no rate for the domain 'science'"):
        shortcut.rate_in("science")


def test_reversed_cues_are_always_wrong_and_random_ones_even() -> None:
    assert 1 not in drawn(Shortcut(rate=1.0), "reversed")
    counts = drawn(Shortcut(rate=1.0), "random")
    assert all(abs(counts[index] - 1000) < 120 for index in range(3))
    with pytest.raises(ValueError, match="points at nothing"):
        drawn(Shortcut(rate=1.0), "absent")


@pytest.mark.parametrize("rate", [1.2, -0.1, {"law": 2.0}])
def test_a_rate_is_a_probability(rate: float | dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="probability"):
        Shortcut(rate=rate)


def test_cue_sentences_of_one_phrase_are_equally_long_and_different() -> None:
    pack = load_pack("finance")
    for phrase in range(len(pack.cues[0])):
        texts = [cue_text(pack, cue_class, phrase) for cue_class in range(3)]
        assert len(set(texts)) == 3
        assert len({len(text.split()) for text in texts}) == 1


def test_more_answer_classes_than_cues_are_an_error() -> None:
    with pytest.raises(IsodistillError, match="cues for 3 answer classes, but 5 are needed"):
        check_packs([load_pack("law")], 5)
