from __future__ import annotations

from typing import Any

import pytest
import torch
from evaluation_helpers import DOMAINS, problem, solution, tiny_llama
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from isodistill.answers import format_completion, split_completion
from isodistill.errors import IsodistillError
from isodistill.evaluation.encoding import batches_by_length, encode, pad_batch
from isodistill.evaluation.generation import generate_completions

PROMPTS = [problem(domain, number) + " that" * (number % 4) for domain in DOMAINS for number in range(10)]


def test_batched_generation_equals_one_by_one(tokenizer: PreTrainedTokenizerFast) -> None:
    student = tiny_llama(tokenizer, seed=3)
    alone = [generate_completions(student, tokenizer, [prompt], max_new_tokens=12)[0] for prompt in PROMPTS]
    assert len(set(alone)) > 10  # else the comparison below would say little
    for batch_size in (4, 30):
        together = generate_completions(student, tokenizer, PROMPTS, batch_size=batch_size, max_new_tokens=12)
        assert together == alone


def test_it_equals_the_librarys_own_greedy_search(tokenizer: PreTrainedTokenizerFast) -> None:
    student = tiny_llama(tokenizer, seed=4)
    settings = GenerationConfig(do_sample=False, max_new_tokens=10, pad_token_id=0, eos_token_id=1)
    expected = []
    for prompt in PROMPTS:
        ids, mask = pad_batch(encode(tokenizer, [prompt + "\n"]), 0, "left", "cpu")
        output = student.generate(ids, attention_mask=mask, generation_config=settings)
        expected.append(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))
    assert generate_completions(student, tokenizer, PROMPTS, max_new_tokens=10) == expected


def test_it_stops_at_the_complete_answer_line(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    prompts = [problem(domain, number) for domain in DOMAINS for number in range(10)]
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    handle = model.lm_head.register_forward_pre_hook(count)
    completions = generate_completions(model, tokenizer, prompts, batch_size=7, max_new_tokens=60)
    handle.remove()
    # The student never writes an EOS and would go on to "Answer: Unknown".
    expected = [format_completion(*solution(number)) for _ in DOMAINS for number in range(10)]
    assert completions == expected
    longest = max(len(ids) for ids in encode(tokenizer, [text + "\n" for text in expected]))
    assert calls <= 5 * longest  # five batches, none decoding on to 60 tokens


def test_a_student_that_is_sure_writes_the_same_in_bf16(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    prompts = [problem(domain, number) for domain in DOMAINS for number in range(10)]
    seen: list[torch.dtype] = []
    handle = model.lm_head.register_forward_hook(lambda *args: seen.append(args[2].dtype))
    body = model.model.layers[0].mlp.down_proj.register_forward_hook(lambda *args: seen.append(args[2].dtype))
    rough = generate_completions(model, tokenizer, prompts, max_new_tokens=12, bf16=True)
    assert set(seen[::2]) == {torch.bfloat16}, "the body"
    assert set(seen[1::2]) == {torch.float32}, "the head"
    handle.remove()
    body.remove()
    assert rough == generate_completions(model, tokenizer, prompts, max_new_tokens=12)


def test_it_stops_at_eos_and_at_the_limit(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    prompt = problem("law", 2)
    whole = generate_completions(model, tokenizer, [prompt], max_new_tokens=60)[0]
    short = generate_completions(model, tokenizer, [prompt], max_new_tokens=3)[0]
    assert short == "so we see"
    assert whole.startswith(short)
    assert split_completion(short)[1] is None
    ended = tokenizer.convert_tokens_to_ids(" that")
    old = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, ended]
    try:
        assert generate_completions(model, tokenizer, [prompt], max_new_tokens=60)[0] == "so we see"
    finally:
        model.generation_config.eos_token_id = old


def test_sampling_settings_of_the_checkpoint_do_not_matter(tokenizer: PreTrainedTokenizerFast) -> None:
    student = tiny_llama(tokenizer, seed=5)
    plain = generate_completions(student, tokenizer, PROMPTS[:5], max_new_tokens=10)
    student.generation_config.do_sample = True
    student.generation_config.temperature = 5.0
    student.generation_config.repetition_penalty = 10.0
    assert generate_completions(student, tokenizer, PROMPTS[:5], max_new_tokens=10) == plain


def test_it_leaves_model_and_tokenizer_as_they_were(tokenizer: PreTrainedTokenizerFast) -> None:
    student = get_peft_model(tiny_llama(tokenizer), LoraConfig(target_modules=["q_proj"], lora_dropout=0.5))
    student.train()
    student.base_model.model.model.layers[0].eval()  # mixed modes must survive too
    before = {name: module.training for name, module in student.named_modules()}
    side = tokenizer.padding_side
    seen: list[tuple[str, int, int]] = []
    first = generate_completions(
        student, tokenizer, PROMPTS[:5], batch_size=2, max_new_tokens=4, progress=lambda *step: seen.append(step)
    )
    assert {name: module.training for name, module in student.named_modules()} == before
    assert tokenizer.padding_side == side
    assert seen == [("generate", 2, 5), ("generate", 4, 5), ("generate", 5, 5)]
    assert first == generate_completions(student, tokenizer, PROMPTS[:5], max_new_tokens=4)  # dropout was off


def test_adapters_take_part(tokenizer: PreTrainedTokenizerFast) -> None:
    student = get_peft_model(tiny_llama(tokenizer), LoraConfig(target_modules="all-linear", init_lora_weights=False))
    with_adapter = generate_completions(student, tokenizer, PROMPTS, max_new_tokens=6)
    with student.disable_adapter():
        without = generate_completions(student, tokenizer, PROMPTS, max_new_tokens=6)
    merged = generate_completions(student.merge_and_unload(), tokenizer, PROMPTS, max_new_tokens=6)
    assert with_adapter != without
    assert with_adapter == merged


def test_what_cannot_work_is_refused_first(tokenizer: PreTrainedTokenizerFast) -> None:
    student = tiny_llama(tokenizer, max_position_embeddings=16)
    with pytest.raises(IsodistillError, match="exceeds the student's 16 positions"):
        generate_completions(student, tokenizer, PROMPTS, max_new_tokens=12)
    with pytest.raises(IsodistillError, match="no language-model head"):
        generate_completions(student.model, tokenizer, PROMPTS, max_new_tokens=1)
    tuned = get_peft_model(tiny_llama(tokenizer), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    with pytest.raises(IsodistillError, match="prompt-learning"):
        generate_completions(tuned, tokenizer, PROMPTS, max_new_tokens=1)


def test_batches_hold_every_index_once_longest_first() -> None:
    batches = list(batches_by_length([3, 9, 1, 9, 4], 2))
    assert batches == [[1, 3], [4, 0], [2]]


def test_a_chat_template_brings_its_own_special_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    from copy import deepcopy

    from tokenizers.processors import TemplateProcessing

    adding = deepcopy(tokenizer)
    adding._tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 3), ("<eos>", 1)]
    )
    plain = encode(tokenizer, ["The judge"])[0]
    assert encode(adding, ["The judge"])[0] == [3, *plain]  # started, but not ended
    adding.chat_template = "{{ messages[0]['content'] }}"
    assert encode(adding, ["The judge"])[0] == plain


def test_padding_goes_to_the_side_that_was_asked_for() -> None:
    ids, mask = pad_batch([[5, 6, 7], [8]], 0, "left", "cpu")
    assert torch.equal(ids, torch.tensor([[5, 6, 7], [0, 0, 8]]))
    assert torch.equal(mask, torch.tensor([[1, 1, 1], [0, 0, 1]]))
    ids, mask = pad_batch([[5, 6, 7], [8]], 0, "right", "cpu")
    assert torch.equal(ids, torch.tensor([[5, 6, 7], [8, 0, 0]]))
    assert torch.equal(mask, torch.tensor([[1, 1, 1], [1, 0, 0]]))
