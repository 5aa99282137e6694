from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from isodistill.isomers import lint_grammar
from isodistill.isomers.lint import lint_pack
from isodistill.isomers.lint_grammar import Finding
from isodistill.isomers.packs import Pack, available_packs, load_pack

CHECKS: tuple[Callable[[Pack], Iterator[Finding]], ...] = (
    lint_grammar.articles,
    lint_grammar.numbers,
    lint_grammar.pronouns,
    lint_grammar.names,
    lint_grammar.spacing,
    lint_grammar.negations,
    lint_grammar.relations,
)


def law(**changes: Any) -> Pack:
    """The pack of contracts with some fields, or templates of some kinds, changed in one place."""
    data = load_pack("law").model_dump(mode="json")
    for path, value in changes.items():
        field, _, place = path.partition("__")
        (data["templates"].__setitem__ if field == "kinds" else data[field].__setitem__)(
            place if field == "kinds" else int(place),
            [*data["templates"][place][1:], value] if field == "kinds" else value,
        )
    return Pack.model_validate(data)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", [*available_packs(), *(f"nonce:{seed}" for seed in range(1, 5))])
def test_honest_packs_give_no_finding(check: Callable[[Pack], Iterator[Finding]], name: str) -> None:
    assert list(check(load_pack(name))) == []


NUMBER = [
    ("amount", "there is {n} {item} in {i}"),
    ("amount", "there is exactly {n} {item} in {i}"),
    ("amount", "{i} contain {n} {item}"),
    ("amount", "the court index shows that {i} contain {n} {item}"),
    ("amount", "{i} do contain {n} {item}"),
    ("amount", "it is so that {i} have {n} {item}"),
    ("more", "compared with {j}, {i} contain {n} more {item}"),
    ("more", "there is {n} more {item} in {i} than in {j}"),
    ("together", "the number of {item} in {i} are the total of those in {j} and {k}"),
    ("how_many", "how many {item} do {i} contain"),
    ("how_many", "how many {item} does {i} contains"),
    ("how_many", "how many {item} is there in {i}"),
    ("how_many", "what are the number of {item} in {i}"),
    ("fact_not", "{i} do not belong to the {A} contracts"),
    ("fact_not", "{i} does not belongs to the {A} contracts"),
    ("fact", "{i} belong to the {A} contracts"),
    ("fact", "{i} is one of the {A} contract"),
    ("fact", "{i} are {A}"),
    ("rule", "all {A} contract are {B}"),
    ("rule", "all {A} contracts is {B}"),
    ("rule", "every {A} contracts is {B}"),
    ("rule", "every {A} contract are {B}"),
    ("rule", "{A} contract is {B}"),
    ("rule", "where a contract are {A}, it is {B}"),
    ("rule", "where a contract is {A}, it are {B}"),
    ("rule", "any contract that are {A} is also {B}"),
    ("rule_if_not", "all contracts that is not {A} are {B}"),
    ("rule_if_not", "all contracts that are not {A} is {B}"),
    ("rule_if_not_then_not", "no contract that is not {A} are {B}"),
    ("some", "some {A} contract are {B}"),
    ("some", "some {A} contracts is {B}"),
    ("some", "at least one {A} contracts is {B}"),
    ("some", "there is {A} contracts that are {B}"),
    ("judge_no", "none of the {A} contract is {B}"),
    ("unless", "unless they is {C}, {A} contracts are {B}"),
    ("set_size", "exactly {n} contracts is {A}"),
    ("set_size", "exactly {n} contract are {A}"),
    ("set_size", "there are {n} {A} contract"),
    ("set_union", "to be {A} means to be {B} or {C} or both, and {n} is both"),
    ("set_count", "how many contract are {A}"),
    ("set_count", "how many contracts is {A}"),
    ("set_count", "how many {A} contracts is there"),
    ("row", "{row} fills the {n} lines of a docket, one each"),
    ("row", "the {n} lines of a docket is taken by {row}, each having one of them"),
    ("row", "the {n} line of a docket are taken by {row}, each having one of them"),
    ("row", "a docket with {n} lines are filled by {row}, one line for each"),
    ("adjacent", "{i} and {j} has neighbouring lines"),
    ("adjacent", "{i} and {j} comes one directly after the other"),
    ("places_after", "{i} comes exactly {n} line after {j}"),
    ("before", "{i} come somewhere before {j}"),
]


@pytest.mark.parametrize(("kind", "template"), NUMBER, ids=[template for _, template in NUMBER])
def test_wrong_number_is_found(kind: str, template: str) -> None:
    (found,) = lint_grammar.numbers(law(**{f"kinds__{kind}": template}))
    assert (found.rule, found.place) == ("agreement", kind)
    assert template in found.problem
    assert "mend the noun or the verb" in found.problem


RIGHT = [
    ("amount", "in {i} there are {n} {item}"),
    ("amount", "{i} held {n} {item}"),
    ("amount", "as for {i}, it contains {n} {item}"),
    ("how_many", "how many {item} did {i} contain"),
    ("how_many", "in {i}, how many {item} are there"),
    ("rule", "being {A} makes a contract {B}"),
    ("rule", "each of the {A} contracts is {B}"),
    ("rule", "those contracts that are {A} are {B}"),
    ("rule", "if one of the contracts is {A}, it is {B}"),
    ("judge_no", "not one of the {A} contracts is {B}"),
    ("set_size", "the number of {A} contracts is {n}"),
    ("set_size", "there are exactly {n} contracts that are {A}"),
    ("set_size", "a total of {n} contracts are {A}"),
    ("places_after", "{i} comes {n} lines later than {j}"),
    ("row", "together, {row} fill the {n} lines of a docket"),
]


@pytest.mark.parametrize(("kind", "template"), RIGHT, ids=[template for _, template in RIGHT])
def test_right_number_is_left_alone(kind: str, template: str) -> None:
    assert list(lint_grammar.numbers(law(**{f"kinds__{kind}": template}))) == []


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    ("singular", "plural", "who"),
    [("place", "places", "that"), ("mouse", "mice", "that"), ("hockey player", "hockey players", "who")],
)
def test_the_plain_templates_suit_other_nouns(
    check: Callable[[Pack], Iterator[Finding]], singular: str, plural: str, who: str
) -> None:
    data = load_pack("law").model_dump(mode="json", exclude={"templates"})
    pack = Pack.model_validate({**data, "kind": {"singular": singular, "plural": plural}, "who": who})
    assert list(check(pack)) == []


@pytest.mark.parametrize(
    ("changes", "place", "told"),
    [
        ({"kinds__fact": "{i} is a {A} contract"}, "fact", "article before a slot"),
        ({"kinds__row": "{row} fill the {n} lines of an docket"}, "row", "'an' before 'docket'"),
        ({"relations__0": {"less": "precedes a old", "greater": "follows an old"}}, "relations", "'a' before 'old'"),
        ({"individuals__0": "a Ivory contract"}, "individuals", "'a' before 'Ivory'"),
        ({"agents__0": "an Dorset file"}, "agents", "'an' before 'Dorset'"),
    ],
)
def test_wrong_articles_are_found(changes: dict[str, Any], place: str, told: str) -> None:
    (found,) = lint_grammar.articles(law(**changes))
    assert (found.rule, found.place) == ("article", place)
    assert told in found.problem


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"individuals__3": "the Ashford contracts"}, "'the Ashford contracts' names several things"),
        ({"agents__0": "the Ashford files"}, "'the Ashford files' names several things"),
        ({"individuals__0": "the ashby contract"}, "no capital in 'ashby'"),
        ({"agents__7": "the hythe file"}, "no capital in 'hythe'"),
        ({"agents__7": "hythe"}, "no capital in 'hythe'"),
    ],
)
def test_odd_names_are_found(changes: dict[str, Any], told: str) -> None:
    (found,) = lint_grammar.names(law(**changes))
    assert (found.rule, found.place) == ("name", next(iter(changes)).split("__")[0])
    assert told in found.problem


def test_a_pack_whose_names_are_all_plural_or_small_is_told_which() -> None:
    data = load_pack("law").model_dump(mode="json")
    files = [name.replace(" file", " files") for name in data["agents"]]
    assert len(list(lint_grammar.names(Pack.model_validate({**data, "agents": files})))) == len(files)
    # Nothing is missed where a pack writes no capital at all, as "the number k".
    small = [name.lower() for name in data["agents"]]
    assert list(lint_grammar.names(Pack.model_validate({**data, "agents": small}))) == []
    medicine = load_pack("medicine").model_dump(mode="json")
    medicine["individuals"][0] = "mr Abara"
    (found,) = lint_grammar.names(Pack.model_validate(medicine))
    assert "no capital in 'mr'" in found.problem


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("every {A}  contract is {B}", "a space too many"),
        ("every {A}contract is {B}", "a slot that touches a word"),
        ("every contract with{A} is {B}", "a slot that touches a word"),
        ("being {A}{B} holds for every contract", "a slot that touches a word"),
        ("where a contract is {A} , it is {B}", "a comma set wrongly"),
        ("where a contract is {A},it is {B}", "a comma set wrongly"),
    ],
)
def test_wrong_spaces_are_found(template: str, told: str) -> None:
    (found,) = lint_grammar.spacing(law(kinds__rule=template))
    assert (found.rule, found.place) == ("spacing", "rule")
    assert told in found.problem
    assert repr(template) in found.problem


NEGATION = [
    ("fact", "{i} is not {A}", "negates once, and fact negates nothing"),
    ("fact_not", "the record shows that {i} is {A}", "negates nothing, and fact_not negates once"),
    ("fact_not", "it is not so that {i} is not {A}", "negates twice"),
    ("rule", "no {A} contract is {B}", "negates once"),
    ("rule_then_not", "every {A} contract is {B}", "negates nothing"),
    ("rule_if_not", "every {A} contract is {B}", "negates nothing"),
    ("rule_if_not_then_not", "every contract that is not {A} is {B}", "negates once, and rule_if_not_then_not"),
    ("judge", "{i} is never {A}", "negates once"),
    ("judge_not", "it holds that {i} is {A}", "negates nothing"),
    ("some_not", "some {A} contracts are {B}", "negates nothing"),
    ("judge_no", "any {A} contract is {B}", "negates nothing"),
    ("judge_some_not", "some {A} contracts are {B}", "negates nothing"),
    ("unless_not", "every {A} contract is {B} unless it is {C}", "negates once, and unless_not negates twice"),
    ("unless", "every {A} contract that is {C} is {B}", "negates nothing"),
    ("override_not", "every {A} contract that is {C} is {B}", "negates nothing"),
    ("override", "no {A} contract that is {C} is {B}", "negates once"),
    ("at", "{i} is not on line {n}", "negates once"),
    ("not_at", "{i} is on line {n}", "negates nothing"),
    ("less", "it is false that {i} {less} {j}", "negates once"),
]


@pytest.mark.parametrize(("kind", "template", "told"), NEGATION, ids=[f"{row[0]}-{row[1]}" for row in NEGATION])
def test_too_few_and_too_many_negations_are_found(kind: str, template: str, told: str) -> None:
    (found,) = lint_grammar.negations(law(**{f"kinds__{kind}": template}))
    assert (found.rule, found.place) == ("negation", kind)
    assert told in found.problem


@pytest.mark.parametrize(
    ("kind", "template"),
    [
        ("fact", "there is no doubt that {i} is {A}"),
        ("fact_not", "it is false that {i} is {A}"),
        ("rule_if_not", "every contract is {B} unless it is {A}"),
        ("rule_if_not", "every contract is {A} or {B}"),
        ("unless", "every {A} contract that is not {C} is {B}"),
        ("unless_not", "all {A} contracts, except those that are {C}, are not {B}"),
        ("set_size", "no fewer and no more than {n} contracts are {A}"),
    ],
)
def test_other_ways_to_negate_are_left_alone(kind: str, template: str) -> None:
    assert list(lint_grammar.negations(law(**{f"kinds__{kind}": template}))) == []


@pytest.mark.parametrize(
    ("less", "greater", "told"),
    [
        ("was stamped after", "was stamped before", "are exchanged"),
        ("is older than", "is younger than", "are exchanged"),
        ("names more parties than", "names fewer parties than", "are exchanged"),
        ("has a higher rank than", "has a lower rank than", "are exchanged"),
        ("came later than", "came earlier than", "are exchanged"),
        ("was stamped after", "was stamped when", "are exchanged"),
        ("was stamped before", "was sealed before", "go the same way"),
    ],
)
def test_exchanged_relations_are_found(less: str, greater: str, told: str) -> None:
    (found,) = lint_grammar.relations(law(relations__0={"less": less, "greater": greater}))
    assert (found.rule, found.place) == ("relation", "relations")
    assert told in found.problem
    assert less in found.problem


def test_relations_whose_words_tell_nothing_are_left_alone() -> None:
    assert list(lint_grammar.relations(law(relations__0={"less": "yields to", "greater": "prevails over"}))) == []


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"kinds__amount": "there is {n} {item} in {i}"}, "agreement"),
        ({"kinds__rule_if_not": "all contracts who are not {A} are {B}"}, "agreement"),
        ({"agents__0": "the Ashford files"}, "name"),
        ({"kinds__rule": "every {A}  contract is {B}"}, "spacing"),
        ({"kinds__some_not": "not some {A} contracts are not {B}"}, "negation"),
        ({"relations__0": {"less": "was sealed after", "greater": "was sealed before"}}, "relation"),
        ({"relations__0": {"less": "precedes a old", "greater": "follows an old"}}, "article"),
    ],
)
def test_the_linter_has_every_check(changes: dict[str, Any], rule: str) -> None:
    assert rule in {finding.rule for finding in lint_pack(law(**changes), trials=1)}
