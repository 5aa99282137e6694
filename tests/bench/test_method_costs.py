"""The cost table covers every method, and leaves the model as it was. Times themselves are not tested."""

from __future__ import annotations

import torch
from tiny_student import make_model, make_sets, make_tokenizer

from isodistill.bench.methods import cost_cases, measure_method_costs
from isodistill.methods import METHODS


def test_every_method_is_timed_and_the_model_restored() -> None:
    assert {options["method"] for options in cost_cases().values()} == set(METHODS)
    model = make_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen: list[str] = []
    table = measure_method_costs("tiny", model, make_tokenizer(), make_sets(8), 2, 1, 1, seen.append)
    assert seen == list(cost_cases())
    assert [cost.case for cost in table.costs] == seen
    assert table.costs[0].case == "erm"
    assert table.costs[0].ratio == 1.0
    assert all(len(cost.seconds) == 1 and cost.seconds[0] > 0.0 for cost in table.costs)
    assert table.domains == 4
    assert table.tokens > 0
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
