from __future__ import annotations

from random import Random

import pytest

from isodistill.answers import split_completion
from isodistill.isomers.families import FAMILIES
from isodistill.isomers.packs import available_packs, load_pack
from isodistill.isomers.parse import parse_prompt
from isodistill.isomers.splits import group_of
from isodistill.lab.config import LabConfig
from isodistill.lab.corpus import (
    draw_text,
    draw_training_skeleton,
    list_text,
    reading_text,
    solved_text,
    statements_text,
)
from isodistill.lab.vocabulary import collect_vocabulary, make_tokenizer, pieces
from isodistill.logic.solver import status

CONFIG = LabConfig(lists=0.1, steps=40, batch_size=10)
TEXTS = [draw_text(CONFIG, number) for number in range(400)]


def test_equal_numbers_give_equal_texts_and_others_give_others() -> None:
    assert TEXTS[:20] == [draw_text(CONFIG, number) for number in range(20)]
    assert len(set(TEXTS)) > 395
    assert TEXTS[100] != draw_text(CONFIG.model_copy(update={"seed": 1}), 100)


def test_the_mixture_is_as_configured() -> None:
    lists, rest = TEXTS[:40], TEXTS[40:]
    assert all(not prompt and len(set(text.split("\n"))) == 1 for prompt, text in lists)
    problems = sum(bool(prompt) for prompt, _ in rest) / len(rest)
    wanted = CONFIG.solved + CONFIG.reading
    assert problems == pytest.approx(wanted, abs=4 * (wanted * (1 - wanted) / len(rest)) ** 0.5)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_no_structure_of_a_test_or_of_validation_is_read(family: str) -> None:
    rng = Random(0)
    assert {group_of(draw_training_skeleton(rng, family, 1 + n % 2).structure) for n in range(20)} == {"train"}


def test_no_cue_is_read() -> None:
    cues = {cue for name in available_packs() for group in load_pack(name).cues for cue in group}
    assert not [text for text in TEXTS for cue in cues if cue in text[0] + text[1]]


def test_every_answer_is_proved() -> None:
    rng = Random(1)
    for number in range(120):
        pack = load_pack(available_packs()[number % len(available_packs())])
        prompt, completion = reading_text(rng, pack) if number % 2 else solved_text(rng, pack, "deduction", 2)
        reading = parse_prompt(prompt.removesuffix("\n"), pack)
        assert status(reading.premises, reading.question) == split_completion(completion)[1]


def test_a_statement_is_told_twice_with_the_same_words() -> None:
    rng = Random(2)
    told = [statements_text(rng, load_pack(available_packs()[0])) for _ in range(40)]
    assert all(prompt == "" and text.count("\n") == 1 for prompt, text in told)
    assert sum(len(set(text.split("\n"))) == 2 for _, text in told) > 20  # mostly in other phrases
    first, second = list_text(rng, load_pack("law"))[1].split("\n")
    assert first == second


def test_the_tokenizer_gives_every_text_back() -> None:
    tokenizer = make_tokenizer(collect_vocabulary(prompt + text for prompt, text in TEXTS))
    for prompt, completion in TEXTS:
        ids = tokenizer(prompt + completion)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == prompt + completion
        assert ids == tokenizer(prompt)["input_ids"] + tokenizer(completion)["input_ids"]


def test_numbers_are_digits_and_words_have_a_form_with_a_capital() -> None:
    assert pieces("There are 42 eggs (or 7).\nAnswer: 42") == [
        *("There", "are", "4", "2", "eggs", "(", "or", "7", ")", ".", "\n", "Answer", ":", "4", "2")
    ]
    tokenizer = make_tokenizer(collect_vocabulary(["There are eggs or"]))
    text = "There are 42 eggs (or 7).\nAnswer: 42"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    vocabulary = tokenizer.get_vocab()
    for name in available_packs():
        for adjective in load_pack(name).properties:
            assert {adjective, adjective.capitalize()} <= vocabulary.keys()


def test_each_answer_is_one_token() -> None:
    from isodistill.evaluation.encoding import choice_ids

    tokenizer = make_tokenizer(collect_vocabulary([]))
    ids = [choice_ids(tokenizer, choice) for choice in ("True", "False", "Unknown")]
    assert [len(each) for each in ids] == [1, 1, 1]
    assert len({each[0] for each in ids}) == 3
