"""The words that stand in place of pydantic's."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from isodistill.validation import first_fault


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rate: float = Field(default=0.1, gt=0, lt=1)


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    count: int = Field(default=4, ge=1, le=8, multiple_of=2)
    span: tuple[int, int] = (1, 3)
    some: Annotated[list[int], Field(min_length=1, max_length=2)] = Field(default_factory=lambda: [1])
    kind: Literal["a", "b"] = "a"
    inner: Inner = Inner()
    each: dict[str, Inner] = Field(default_factory=dict)
    flag: bool = False

    @field_validator("name")
    @classmethod
    def _named(cls, name: str) -> str:
        if not name:
            raise ValueError("a name has a letter")
        return name

    @model_validator(mode="after")
    def _check(self) -> Model:
        if self.span[0] > self.count:
            raise ValueError("span begins above count")
        return self


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"nmae": "x"}, "nmae: there is no such field, only name, count, span, some, kind, inner, each, flag"),
        ({"name": 3}, "name: must be a text, not 3"),
        ({"name": ""}, "name: a name has a letter"),
        ({"count": "many"}, "count: must be a whole number, not 'many'"),
        ({"count": 1.5}, "count: must be a whole number, not 1.5"),
        ({"count": None}, "count: must be a whole number, not None"),
        ({"count": 0}, "count: must be 1 or more, not 0"),
        ({"count": 10}, "count: must be 8 or less, not 10"),
        ({"count": 3}, "count: must be a multiple of 2, not 3"),
        ({"span": 1}, "span: must be a list in brackets, not 1"),
        ({"span": (1, 2, 3)}, "span: must have 2 at most, not 3"),
        ({"span": (5, 6)}, "the combination of fields: span begins above count"),
        ({"some": []}, "some: must have 1 or more, not 0"),
        ({"kind": "c"}, "kind: must be 'a' or 'b', not 'c'"),
        ({"inner": {"rate": 0}}, "inner.rate: must be greater than 0, not 0"),
        ({"inner": {"rate": 1}}, "inner.rate: must be less than 1, not 1"),
        ({"inner": {"rate": "x" * 100}}, f"inner.rate: must be a number, not '{'x' * 39}..."),
        ({"inner": {"rat": 1}}, "inner.rat: there is no such field"),
        ({"inner": 3}, "inner: must be a mapping, not 3"),
        ({"each": {"erm": {"rate": 2}}}, "each.erm.rate: must be less than 1, not 2"),
        ({"each": [1]}, "each: must be a mapping, not [1]"),
        ({"flag": "perhaps"}, "flag: must be true or false, not 'perhaps'"),
    ],
)
def test_a_fault_has_a_place_and_plain_words(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Model.model_validate({"name": "n", **wrong})
    assert ": ".join(first_fault(caught.value, known=Model.model_fields)) == said


def test_what_is_missing_is_said_to_be() -> None:
    with pytest.raises(ValidationError) as caught:
        Model.model_validate({})
    assert first_fault(caught.value) == ("name", "is missing")
