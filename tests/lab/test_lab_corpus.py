from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from isodistill.answers import split_completion
from isodistill.errors import IsodistillError
from isodistill.isomers.families import FAMILIES
from isodistill.isomers.packs import Pack, available_packs, load_pack
from isodistill.isomers.parse import parse_prompt
from isodistill.isomers.render import choices_line, sentence
from isodistill.isomers.splits import group_of
from isodistill.lab.config import LabConfig
from isodistill.lab.corpus import Text, draw_text, draw_training_skeleton, reading_text, solved_text
from isodistill.lab.vocabulary import collect_vocabulary, make_tokenizer, pieces
from isodistill.logic.formula import Forall, Formula, Implies, Not
from isodistill.logic.solver import status

CONFIG = LabConfig(solved=0.3, remarks=0.0, ramp=0.5, steps=40, batch_size=10)
REMARKED = CONFIG.model_copy(update={"solved": 0.0, "remarks": 0.5})
CUES = {cue for name in available_packs() for group in load_pack(name).cues for cue in group}
TEXTS = [draw_text(CONFIG, number) for number in range(400)]


def flat(text: Text) -> str:
    return "\n".join(prompt + completion for prompt, completion in text)


def test_equal_numbers_give_equal_texts_and_others_give_others() -> None:
    assert TEXTS[:20] == [draw_text(CONFIG, number) for number in range(20)]
    assert len(set(TEXTS)) > 395
    assert TEXTS[100] != draw_text(CONFIG.model_copy(update={"seed": 1}), 100)


def test_the_mixture_is_as_configured() -> None:
    solved = sum(len(text) == 1 for text in TEXTS) / len(TEXTS)
    assert solved == pytest.approx(CONFIG.solved, abs=4 * (CONFIG.solved * (1 - CONFIG.solved) / len(TEXTS)) ** 0.5)
    assert all(len(draw_text(REMARKED, number)) == 3 for number in range(20))  # none is solved


def test_packs_of_invented_words_are_read_as_often_as_the_others() -> None:
    config = CONFIG.model_copy(update={"nonce": 9, "solved": 0.0})
    assert config.packs == (*available_packs(), *(f"nonce:{seed}" for seed in range(9)))
    words = [set(load_pack(name).properties) for name in config.packs[9:]]
    texts = [flat(draw_text(config, number)) for number in range(400)]
    read = [sum(bool(own & set(pieces(text))) for text in texts) for own in words]
    assert all(read)
    assert sum(read) == pytest.approx(200, abs=4 * 100**0.5)
    assert not any(own & set(pieces(flat(text))) for text in TEXTS for own in words)


def test_reading_grows_from_one_premise_to_four() -> None:
    def sentences(texts: list[Text]) -> list[int]:
        return [text[0][0].split("\n")[0].count(".") for text in texts if len(text) > 1]

    assert set(sentences(TEXTS[:20])) == {1}
    assert set(sentences(TEXTS[200:])) == {1, 2, 3, 4}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_no_structure_of_a_test_or_of_validation_is_read(family: str) -> None:
    rng = Random(0)
    assert {group_of(draw_training_skeleton(rng, family, 1 + n % 2).structure) for n in range(20)} == {"train"}


def test_no_cue_is_read_unless_asked_for() -> None:
    assert not [text for text in TEXTS for cue in CUES if cue in flat(text)]


def test_a_remark_is_a_cue_that_tells_nothing_but_itself() -> None:
    about: Counter[bool] = Counter()
    others: Counter[tuple[bool, str]] = Counter()
    remarked = 0
    for number in range(600):
        text = draw_text(REMARKED, number)
        made = [cue for cue in CUES if cue in text[0][0].split("\n")[0]]
        assert len(made) <= 1
        remarked += len(made)
        for prompt, completion in text:
            asked = prompt.split("\n")[-3]
            named = [cue for cue in CUES if cue in asked]
            answer = str(split_completion(completion)[1])
            if named:
                assert made, "a remark is asked about where none was made"
                assert answer == str(named == made)
                about[named == made] += 1
            elif made:
                group = next(place for place, cues in enumerate(pack_of(made[0]).cues) if made[0] in cues)
                others[group == 0, answer] += 1
    assert remarked == pytest.approx(300, abs=50)
    assert min(about.values()) > 80
    # Given any remark, other statements are as often true as with another one.
    shares = [others[group, "True"] / (others[group, "True"] + others[group, "False"]) for group in (True, False)]
    assert abs(shares[0] - shares[1]) < 0.15


def pack_of(cue: str) -> Pack:
    packs = [load_pack(name) for name in available_packs()]
    return next(pack for pack in packs if any(cue in group for group in pack.cues))


def test_every_answer_is_proved() -> None:
    rng = Random(1)
    for number in range(40):
        pack = load_pack(available_packs()[number % len(available_packs())])
        prompt, completion = solved_text(rng, pack, "deduction", 2)
        assert prompt.endswith("\nYes or No?\n"), "it is not to have seen the task's own form"
        reading = parse_prompt(prompt.replace("Yes or No?\n", "True or False?"), pack)
        answer = {"Yes": "True", "No": "False"}[str(split_completion(completion)[1])]
        assert status(reading.premises, reading.question) == answer


def read_statement(premises: str, asked: str, pack: Pack) -> tuple[tuple[Formula, ...], Formula]:
    try:  # a fact, or a rule that may also be a question
        reading = parse_prompt(f"{premises}\n{asked}\n{choices_line(('True', 'False'))}", pack)
        return reading.premises, reading.question
    except IsodistillError:  # other rules are read as one more premise
        lead = next(lead for lead in pack.leads if asked.startswith(lead))
        names = {"i": next(iter(pack.individuals)), "A": next(iter(pack.properties))}
        question = f"{lead} {sentence(pack.templates['judge'][0].format_map(names))}"
        reading = parse_prompt(f"{premises} {asked.removeprefix(lead).strip()}\n{question}\nTrue or False?", pack)
        return reading.premises[:-1], reading.premises[-1]


def test_a_statement_is_true_if_it_stands_in_the_text_and_false_if_its_opposite_does() -> None:
    rng, seen = Random(1), Counter[tuple[bool, bool]]()
    for number in range(60):
        pack = load_pack(available_packs()[number % len(available_packs())])
        text = reading_text(rng, pack)
        for prompt, completion in text:
            premises, statement = read_statement(text[0][0].split("\n")[0], prompt.split("\n")[-3], pack)
            rationale, answer = split_completion(completion)
            assert answer == str(statement in premises)
            assert statement in premises or negated(statement) in premises
            seen[answer == "True", bool(rationale)] += 1
            if rationale:
                settles = read_statement(rationale, prompt.split("\n")[-3], pack)[0]
                assert settles == ((statement,) if answer == "True" else (negated(statement),))
    assert len(seen) == 4
    assert min(seen.values()) > 10


def negated(formula: Formula) -> Formula:
    if isinstance(formula, Forall):
        assert isinstance(formula.body, Implies)
        return Forall(formula.var, Implies(formula.body.left, negated(formula.body.right)))
    return formula.body if isinstance(formula, Not) else Not(formula)


def test_the_tokenizer_gives_every_text_back() -> None:
    tokenizer = make_tokenizer(collect_vocabulary(map(flat, TEXTS), available_packs()))
    for prompt, completion in (turn for text in TEXTS for turn in text):
        ids = tokenizer(prompt + completion)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == prompt + completion
        assert ids == tokenizer(prompt)["input_ids"] + tokenizer(completion)["input_ids"]


def test_cues_are_in_the_vocabulary() -> None:
    words = set(collect_vocabulary([], available_packs()))
    assert all(
        set(pieces(cue)) <= words for name in available_packs() for group in load_pack(name).cues for cue in group
    )


def test_numbers_are_digits_and_words_have_a_form_with_a_capital() -> None:
    assert pieces("There are 42 eggs (or 7).\nAnswer: 42") == [
        *("There", "are", "4", "2", "eggs", "(", "or", "7", ")", ".", "\n", "Answer", ":", "4", "2")
    ]
    tokenizer = make_tokenizer(collect_vocabulary(["There are eggs or"], available_packs()))
    text = "There are 42 eggs (or 7).\nAnswer: 42"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    vocabulary = tokenizer.get_vocab()
    for name in available_packs():
        for adjective in load_pack(name).properties:
            assert {adjective, adjective.capitalize()} <= vocabulary.keys()


def test_each_answer_is_one_token() -> None:
    from isodistill.evaluation.encoding import choice_ids

    tokenizer = make_tokenizer(collect_vocabulary([], available_packs()))
    ids = [choice_ids(tokenizer, choice) for choice in ("True", "False", "Unknown")]
    assert [len(each) for each in ids] == [1, 1, 1]
    assert len({each[0] for each in ids}) == 3
