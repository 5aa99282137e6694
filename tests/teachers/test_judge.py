"""Replies of every kind: what is learnt from, and what is not."""

from __future__ import annotations

import time

import pytest
from teacher_server import make_sets

from isodistill.answers import split_completion
from isodistill.teachers.judge import MAX_CHARACTERS, ends_in_answer, judge

SET = make_sets(1)[0]  # the answer is True


def verdict(text: str, finish: str = "stop", answer: str = "True") -> str:
    choices = SET.choices if answer in SET.choices else ()
    return judge(text, finish, SET.model_copy(update={"answer": answer, "choices": choices}), SET.members[0]).verdict


@pytest.mark.parametrize(
    "text",
    [
        "So it is.\nAnswer: True",
        "So it is.\r\nAnswer: true.\r\n",
        "So it is.\n\n**Answer: True**\n",
        "So it is.\n**Answer:** `True`.",
        "So it is.\nFinal answer: True",
        "> So it is.\n> Answer: TRUE",
        "So it is.\nAnswer: True\nAnswer: True",
        "So it is.\nAnswer: True\n\nI hope that this helps!",
        "<think>Answer: False? No: Answer: False\n</think>\nSo it is.\nAnswer: True",
        "The answer: it is not False, as [bold]shown[/bold] <b>here</b>.\nAnswer: True",
        "So it is \N{GREEK SMALL LETTER BETA} > 2.\n- Answer: True",
    ],
)
def test_accepted(text: str) -> None:
    made = judge(text, "stop", SET, SET.members[0])
    assert made.accepted
    assert made.right
    # The text that a student learns from reads back as the rationale and the verified answer.
    assert split_completion(f"{made.rationale}\nAnswer: True") == (made.rationale, "True")
    assert "Answer:" not in made.rationale


@pytest.mark.parametrize(
    ("text", "finish", "expected"),
    [
        ("", "stop", "no answer"),
        ("It is true.", "stop", "no answer"),
        ("It is so because", "length", "cut off"),
        ("Answer:", "stop", "no answer"),
        ("So.\nAnswer: False", "stop", "wrong answer"),
        ("So.\nAnswer: True or False", "stop", "wrong answer"),
        ("So.\nAnswer: True\nAnswer: False", "stop", "several answers"),
        ("So.\nAnswer: False\nThe real one:\nAnswer: True", "stop", "several answers"),
        ("**ANSWER : False**\nSo.\nAnswer: True", "stop", "several answers"),
        ("Answer: True", "stop", "no rationale"),
        ("<think>It is so.</think>Answer: True", "stop", "no rationale"),
        ("Look: \x1b[31mred\x1b[0m.\nAnswer: True", "stop", "control characters"),
        ("Nul \x00 byte.\nAnswer: True", "stop", "control characters"),
        ("\u202eesrever.\nAnswer: True", "stop", "control characters"),
        ("Zero\u200bwidth.\nAnswer: True", "stop", "control characters"),
        ("lone \ud800.\nAnswer: True", "stop", "control characters"),
        ("So.<|im_end|>\n<|im_start|>user\nAnswer: True", "stop", "template tokens"),
        ("So.</s>\nAnswer: True", "stop", "template tokens"),
        ("[INST] So [/INST]\nAnswer: True", "stop", "template tokens"),
        ("x" * (MAX_CHARACTERS + 1) + "\nAnswer: True", "stop", "too long"),
    ],
)
def test_rejected(text: str, finish: str, expected: str) -> None:
    assert verdict(text, finish) == expected


def test_an_empty_answer_line_is_no_part_of_the_rationale() -> None:
    made = judge("So it is.\nAnswer:\nAnswer: True", "stop", SET, SET.members[0])
    assert (made.verdict, made.rationale) == ("accepted", "So it is.")


def test_numbers() -> None:
    assert verdict("6 * 7 = 42.\nAnswer: 42", answer="42") == "accepted"
    assert verdict("So.\nAnswer: 1,042.", answer="1042") == "accepted"
    assert verdict("So.\nAnswer: 42 kg", answer="42") == "wrong answer"
    assert verdict("So.\nAnswer: 4", answer="42") == "wrong answer"


def test_a_benchmarks_answers_are_compared_as_the_benchmark_does() -> None:
    def of(family: str, answer: str, text: str) -> str:
        problem = SET.model_copy(update={"family": family, "answer": answer, "choices": ()})
        return judge(text, "stop", problem, SET.members[0]).verdict

    assert of("gsm8k", "1024", "So.\nAnswer: $1,024.00") == "accepted"
    assert of("gsm8k", "18", "So.\nAnswer: 18 dollars\nAnswer: 18") == "accepted"
    assert of("gsm8k", "18", "So.\nAnswer: 19 dollars") == "wrong answer"
    assert of("gsm8k", "18", "So.\nAnswer: 17\nAnswer: 18") == "several answers"
    assert of("isosci/chemistry", "2.50 mol", "So.\nAnswer: 2.5 mol") == "accepted"
    assert of("isosci/chemistry", "2.50 mol", "So.\nAnswer: 2.5 kg") == "wrong answer"


@pytest.mark.parametrize(
    "unit", ["*", " ", "Answer:", "Answer: a ", "<think>", "<|", "\n", "Final ", "Answer: *\n", "#"]
)
def test_no_reply_makes_the_reading_slow(unit: str) -> None:
    text = (unit * MAX_CHARACTERS)[: MAX_CHARACTERS - 20]
    started = time.perf_counter()
    for hostile in (text, f"So.\nAnswer: {text}x", f"{text}\nAnswer: True"):
        verdict(hostile[:MAX_CHARACTERS])
    assert time.perf_counter() - started < 2.0


def test_when_writing_may_stop() -> None:
    assert ends_in_answer("So.\nAnswer: True\n")
    assert ends_in_answer("So.\nAnswer: True\nAnd")
    assert not ends_in_answer("So.\nAnswer: True")
    assert not ends_in_answer("So.\nAnswer:\n")
    assert not ends_in_answer("<think>\nAnswer: True\n")
    assert ends_in_answer("<think>\nAnswer: True\n</think>\nAnswer: False\n")
