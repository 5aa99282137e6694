from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_helpers import DOMAINS, problem, solution, tiny_llama
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from isodistill.evaluation.encoding import choice_ids, encode
from isodistill.evaluation.scoring import answer_text, score_answers

PROMPTS = [problem(domain, number) for domain in DOMAINS for number in range(6)]
COMPLETIONS = [
    "\n".join([solution(number)[0], f"Answer: {solution(number)[1]}"]) if number % 3 else "Answer: True"
    for _ in DOMAINS
    for number in range(6)
]
SINGLE = ["True", "False", "Unknown"]
LONG = ["True", "Maybe not", "see that 3 judge"]


def naive(student: Any, tokenizer: PreTrainedTokenizerFast, prefix: str, choices: list[str]) -> tuple[Any, Any]:
    """One sequence at a time, full logits, float64."""
    double = copy.deepcopy(student).double()
    start = encode(tokenizer, [prefix])[0]
    sums = []
    state = None
    for choice in choices or [""]:
        target = encode(tokenizer, [f"{prefix} {choice}"])[0][len(start) :] if choice else []
        output = double(torch.tensor([start + target]), output_hidden_states=True)
        log_probs = output.logits[0].detach().log_softmax(-1)
        sums.append(sum(float(log_probs[len(start) - 1 + k, token]) for k, token in enumerate(target)))
        state = output.hidden_states[-1][0, len(start) - 1].detach().numpy()
    return state, np.array(sums) if choices else None


@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("rationale", ["student", "none"])
@pytest.mark.parametrize("kind", ["single", "long", "mixed"])
def test_scores_equal_a_naive_reference(
    tokenizer: PreTrainedTokenizerFast, kind: str, rationale: str, adapter: bool
) -> None:
    student: Any = tiny_llama(tokenizer, seed=1)
    if adapter:
        student = get_peft_model(student, LoraConfig(target_modules="all-linear", init_lora_weights=False)).eval()
    choices: list[list[str]] = [
        {"single": SINGLE, "long": LONG, "mixed": [SINGLE, LONG, []][index % 3]}[kind] for index in range(len(PROMPTS))
    ]
    completions = COMPLETIONS if rationale == "student" else None
    scores = score_answers(student, tokenizer, PROMPTS, choices, completions, batch_size=5)
    for index, score in enumerate(scores):
        prefix = answer_text(PROMPTS[index] + "\n", completions[index] if completions else None)
        assert prefix.endswith("\nAnswer:")
        state, sums = naive(student, tokenizer, prefix, choices[index])
        np.testing.assert_allclose(score.state, state, rtol=1e-5, atol=1e-5)
        if sums is None:
            assert score.log_likelihood is None
            assert score.probabilities is None
            continue
        np.testing.assert_allclose(score.log_likelihood, sums, rtol=1e-5, atol=1e-5)
        expected = np.exp(sums - sums.max())
        np.testing.assert_allclose(score.probabilities, expected / expected.sum(), rtol=1e-5, atol=1e-5)
        assert score.probabilities.sum() == pytest.approx(1)


def test_the_state_is_what_feeds_the_head(tokenizer: PreTrainedTokenizerFast) -> None:
    student = tiny_llama(tokenizer, seed=2)
    score = score_answers(student, tokenizer, PROMPTS[:1], [SINGLE], None)[0]
    logits = student.lm_head.weight.detach() @ torch.from_numpy(score.state)
    tokens = [choice_ids(tokenizer, choice)[0] for choice in SINGLE]
    expected = logits.log_softmax(0)[tokens].numpy()
    np.testing.assert_allclose(score.log_likelihood, expected, rtol=1e-5)


def test_bf16_runs_the_body_and_leaves_the_head_in_full_precision(tokenizer: PreTrainedTokenizerFast) -> None:
    student = tiny_llama(tokenizer, seed=2)
    seen: list[torch.dtype] = []
    handle = student.model.layers[0].mlp.down_proj.register_forward_hook(lambda *args: seen.append(args[2].dtype))
    scores = score_answers(student, tokenizer, PROMPTS, [SINGLE] * len(PROMPTS), None, bf16=True)
    assert set(seen) == {torch.bfloat16}
    tokens = [choice_ids(tokenizer, choice)[0] for choice in SINGLE]
    plain = score_answers(student, tokenizer, PROMPTS, [SINGLE] * len(PROMPTS), None)
    assert seen[-1] == torch.float32
    handle.remove()
    for rough, exact in zip(scores, plain, strict=True):
        assert not np.array_equal(rough.state, exact.state)
        np.testing.assert_allclose(rough.state, exact.state, atol=0.15)
        logits = student.lm_head.weight.detach() @ torch.from_numpy(rough.state)
        np.testing.assert_allclose(rough.log_likelihood, logits.log_softmax(0)[tokens].numpy(), rtol=1e-5)


def test_an_error_in_the_head_leaves_no_hook_and_no_precision_behind(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = tiny_llama(tokenizer)

    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory")

    handle = student.lm_head.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        score_answers(student, tokenizer, PROMPTS[:1], [SINGLE], None, bf16=True)
    handle.remove()
    with monkeypatch.context() as patch:
        patch.setattr(student.lm_head, "forward", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            score_answers(student, tokenizer, PROMPTS[:1], [SINGLE], None, bf16=True)
    assert not torch.is_autocast_enabled("cpu")
    assert not student.lm_head._forward_pre_hooks
    assert not student.lm_head._forward_hooks
    plain = score_answers(student, tokenizer, PROMPTS[:1], [SINGLE], None)[0]
    assert plain.state.dtype == np.float32


def test_full_logits_never_exist(tokenizer: PreTrainedTokenizerFast) -> None:
    student = tiny_llama(tokenizer)
    shapes: list[tuple[int, ...]] = []
    handle = student.lm_head.register_forward_hook(lambda _m, _a, output: shapes.append(tuple(output.shape)))
    score_answers(student, tokenizer, PROMPTS, [SINGLE] * len(PROMPTS), COMPLETIONS, batch_size=6)
    handle.remove()
    assert shapes == [(6, 1, len(tokenizer))] * 3
    assert not student.lm_head._forward_pre_hooks  # ours is gone again


def test_a_taught_student_believes_its_answers(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    completions = ["\n".join(solution(number)) for _ in DOMAINS for number in range(6)]
    completions = [text.replace("\n", "\nAnswer: ") for text in completions]
    scores = score_answers(model, tokenizer, PROMPTS, [SINGLE] * len(PROMPTS), completions)
    likeliest = [SINGLE[int(score.probabilities.argmax())] for score in scores if score.probabilities is not None]
    assert likeliest == [solution(number)[1] for _ in DOMAINS for number in range(6)]


def test_training_flags_come_back_even_after_an_error(tokenizer: PreTrainedTokenizerFast) -> None:
    student = tiny_llama(tokenizer).train()

    def fail(*_: Any) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        score_answers(student, tokenizer, PROMPTS, [SINGLE] * len(PROMPTS), None, progress=fail)
    assert all(module.training for module in student.modules())
    assert not student.lm_head._forward_pre_hooks


def test_the_answer_text_keeps_the_rationale_only() -> None:
    assert answer_text("Q\n", None) == "Q\nAnswer:"
    assert answer_text("Q\n", "Answer: True") == "Q\nAnswer:"
    assert answer_text("Q\n", "a\nb\nAnswer: True") == "Q\na\nb\nAnswer:"
    assert answer_text("Q\n", "cut short, no answer  ") == "Q\ncut short, no answer\nAnswer:"


def test_bfloat16_students_are_scored_in_float32(tokenizer: PreTrainedTokenizerFast) -> None:
    score = score_answers(tiny_llama(tokenizer).bfloat16(), tokenizer, PROMPTS[:1], [SINGLE], None)[0]
    assert score.state.dtype == np.float32
    assert score.probabilities is not None
    assert np.isfinite(score.probabilities).all()


def test_uneven_arguments_are_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ValueError, match="same length"):
        score_answers(tiny_llama(tokenizer), tokenizer, PROMPTS, [SINGLE], None)
