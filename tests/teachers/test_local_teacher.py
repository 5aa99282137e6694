"""A local model as teacher and as scorer, on models small enough to be checked number by number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from teacher_server import make_problems, make_sets
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from isodistill.distillation import TeacherTokens, forward_kl
from isodistill.errors import IsodistillError
from isodistill.teachers.base import Failure, Reply, Request
from isodistill.teachers.collect import Collector
from isodistill.teachers.instruction import Instruction
from isodistill.teachers.local import LocalTeacher
from isodistill.teachers.meter import BudgetSpent, Meter
from isodistill.teachers.sampling import Sampling
from isodistill.teachers.scoring import Scorer, encode_pair
from isodistill.traces import TraceStore
from isodistill.traces.signals import check_same_vocabulary

torch.set_num_threads(1)

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def make_tokenizer(extra: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    splitter = pre_tokenizers.Split(Regex(r"\n|<\w+>| ?[^\s:.?,<]+|[:.?,]| "), behavior="isolated")
    texts = [problem.member.prompt for problem in make_problems(6)]
    texts += ["Think.\nSo it follows.\nAnswer: True False Unknown\n", "True False Unknown", "<system><user><assistant>"]
    words = sorted({piece for text in texts for piece, _ in splitter.pre_tokenize_str(text)} | set(extra))
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<pad>", "<eos>", "<unk>", *words])}, "<unk>"))
    inner.pre_tokenizer = splitter
    inner.decoder = decoders.Fuse()
    made = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
    made.chat_template = TEMPLATE
    return made


def make_model(tokenizer: PreTrainedTokenizerFast, positions: int = 256, seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=48,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=positions,
            initializer_range=0.2,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=None,
        )
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learnt by heart to solve three problems, with its chat template."""
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    instruction = Instruction("Think.")
    rows = []
    for isomer_set in make_sets(3):
        for member in isomer_set.members:
            text = tokenizer.apply_chat_template(
                instruction.messages(member.prompt), tokenize=False, add_generation_prompt=True
            )
            rows.append(f"{text}So it follows.\nAnswer: {isomer_set.answer}\n So so so so<eos>")
    batch = tokenizer(rows, return_tensors="pt", padding=True, add_special_tokens=False)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(80):
        loss = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    out = tmp_path_factory.mktemp("local") / "teacher"
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


def teacher_at(folder: Path, **options: object) -> LocalTeacher:
    return LocalTeacher(str(folder), Instruction("Think."), **{"max_tokens": 24, **options})  # type: ignore[arg-type]


def replies(teacher: LocalTeacher, requests: list[Request]) -> dict[tuple[str, int], str]:
    found = {}
    for request, reply in teacher.write(iter(requests)):
        assert isinstance(reply, Reply)
        found[request.member.prompt, request.attempt] = reply.text
    return found


def test_it_solves_what_it_has_learnt_and_stops_at_the_answer(folder: Path, tmp_path: Path) -> None:
    problems = make_problems(3)
    teacher = teacher_at(folder, batch_size=5)
    with TraceStore(tmp_path / "t.sqlite") as store:
        outcomes = Collector(teacher, Sampling(), store).collect(problems)
        for outcome in outcomes:
            assert outcome.completion == f"So it follows.\nAnswer: {outcome.problem.isomer_set.answer}"
        records = list(store.select())
        assert {record.finish for record in records} == {"stop"}
        assert all(record.text.endswith("\n") for record in records)  # nothing was written after the line
        assert all(8 <= record.completion_tokens <= 11 for record in records)
        assert teacher.meter.completion_tokens == sum(record.completion_tokens for record in records)
        assert teacher.meter.requests == 12
        again = teacher_at(folder)
        Collector(again, Sampling(), store).collect(problems)
        assert again.meter.requests == 0


def test_a_sample_depends_on_its_seed_and_not_on_its_neighbours(folder: Path) -> None:
    requests = [
        Request(problem.isomer_set, problem.member, attempt, temperature=1.5, seed=100 * place + attempt)
        for place, problem in enumerate(make_problems(3))
        for attempt in range(3)
    ]
    whole = replies(teacher_at(folder, batch_size=36), requests)
    alone = replies(teacher_at(folder, batch_size=1), requests)
    assert whole == alone
    assert len(set(whole.values())) > 5
    other = [Request(r.isomer_set, r.member, r.attempt, 1.5, seed=r.seed + 5000) for r in requests]
    assert replies(teacher_at(folder), other) != whole


def test_samples_follow_the_distribution(folder: Path) -> None:
    """The first token's frequencies over 600 seeds, against the softmax at the temperature, cut to the nucleus."""
    problem = make_problems(1)[0]
    temperature, top_p = 3.0, 0.8
    teacher = teacher_at(folder, batch_size=200, max_tokens=1, top_p=top_p)
    requests = [Request(problem.isomer_set, problem.member, n, temperature, seed=n) for n in range(600)]
    drawn = [reply.text for _, reply in teacher.write(iter(requests)) if isinstance(reply, Reply)]
    ids = torch.tensor([teacher._encode(requests[0])])
    with torch.inference_mode():
        probabilities = (teacher.network(ids).logits[0, -1].float() / temperature).softmax(-1)
    ordered, order = probabilities.sort(descending=True)
    kept = order[: int((ordered.cumsum(0) < top_p).sum()) + 1]
    expected = probabilities[kept] / probabilities[kept].sum()
    assert len(kept) > 3
    allowed = {teacher.tokenizer.decode([int(token)], skip_special_tokens=True) for token in kept}
    assert set(drawn) <= allowed
    top = teacher.tokenizer.decode([int(kept[0])], skip_special_tokens=True)
    share = drawn.count(top) / len(drawn)
    assert abs(share - float(expected[0])) < 4 * float((expected[0] * (1 - expected[0]) / 600).sqrt())


def test_a_problem_that_does_not_fit_is_a_failure_of_its_own(folder: Path) -> None:
    long, short = make_problems(1, ("law", "math"))
    member = long.member.model_copy(update={"prompt": long.member.prompt * 40})
    requests = [Request(long.isomer_set, member), Request(short.isomer_set, short.member)]
    (_, first), (_, second) = teacher_at(folder).write(iter(requests))
    assert isinstance(first, Failure)
    assert first.permanent
    assert "256 positions" in first.detail
    assert isinstance(second, Reply)


def test_budgets_hold_batch_by_batch(folder: Path, tmp_path: Path) -> None:
    with TraceStore(tmp_path / "t.sqlite") as store:
        teacher = teacher_at(folder, batch_size=4, meter=Meter(max_requests=10))
        with pytest.raises(BudgetSpent, match="budget of 10 requests has 2 left, too few for a batch of 4"):
            Collector(teacher, Sampling(), store).collect(make_problems(3))
        assert store.count() == teacher.meter.requests == 8
        teacher = teacher_at(folder, batch_size=2, meter=Meter(max_tokens=120))
        with pytest.raises(BudgetSpent, match="budget of 120 tokens"):
            Collector(teacher, Sampling(), store).collect(make_problems(3))
        assert store.count() == 10
        assert 0 < teacher.meter.tokens <= 120


def test_missing_models_and_devices(folder: Path) -> None:
    with pytest.raises(IsodistillError, match="is not known"):
        LocalTeacher("gpt-9")
    with pytest.raises(IsodistillError, match="the device 'nowhere'"):
        teacher_at(folder, device="nowhere")


PAIRS = [(problem.member.prompt, "So it follows.\nAnswer: True") for problem in make_problems(2)]
PAIRS[0] = (PAIRS[0][0], "Answer: False")


def test_scores_are_the_models_own_log_probabilities(folder: Path, tmp_path: Path) -> None:
    with TraceStore(tmp_path / "t.sqlite") as store:
        scorer = Scorer.load(str(folder), 6, system_prompt="Think.", batch_size=3, store=store)
        calls: list[int] = []
        signals = scorer.score(PAIRS, lambda done, total: calls.append(done))
        assert calls == [0, 3, 6, 8]
        for (prompt, completion), signal in zip(PAIRS, signals, strict=True):
            start, rest = encode_pair(scorer.tokenizer, prompt, completion, "Think.")
            assert scorer.tokenizer.decode(rest) == f"{completion}<eos>"
            assert signal.token_ids.tolist() == rest
            with torch.inference_mode():
                logits = scorer.network(torch.tensor([start + rest])).logits[0].double()
            expected = logits[len(start) - 1 : -1].log_softmax(-1)
            values, ids = expected.topk(6, dim=-1)
            np.testing.assert_allclose(signal.top_logprobs, values.numpy(), rtol=1e-4, atol=1e-4)
            assert (signal.top_ids == ids.numpy()).mean() > 0.95  # ties may change places
        stored = scorer.score(PAIRS)
        assert store.signal_sizes()[0] == len(PAIRS)
        for first, second in zip(signals, stored, strict=True):
            np.testing.assert_allclose(first.top_logprobs, second.top_logprobs, rtol=2e-3, atol=2e-3)
            np.testing.assert_array_equal(first.top_ids, second.top_ids)


def test_other_vocabularies_are_refused(folder: Path) -> None:
    scorer = Scorer.load(str(folder), 2)
    scorer.check_student(make_tokenizer())
    with pytest.raises(IsodistillError, match=r"vocabulary \(\d+ tokens\) is not the student's .* such as 'zebra'"):
        scorer.check_student(make_tokenizer(("zebra",)))
    moved = make_tokenizer()
    vocabulary = dict(moved.get_vocab())
    vocabulary[" it"], vocabulary[" follows"] = vocabulary[" follows"], vocabulary[" it"]

    class Moved:
        def get_vocab(self) -> dict[str, int]:
            return vocabulary

    with pytest.raises(IsodistillError, match="2 tokens differ"):
        check_same_vocabulary(make_tokenizer(), Moved())
    with pytest.raises(IsodistillError, match="top-k 0 is not between"):
        Scorer.load(str(folder), 0)
    with pytest.raises(IsodistillError, match="more than the scorer's 256 positions"):
        scorer.score([(PAIRS[0][0], "So it follows. " * 90)])


@pytest.mark.parametrize("k", [4, None])
def test_a_student_learns_from_the_distributions_alone(folder: Path, k: int | None) -> None:
    """A fresh student, trained on nothing but the divergence, comes to the teacher's distribution."""
    tokenizer = make_tokenizer()
    scorer = Scorer.load(str(folder), k or len(tokenizer), system_prompt="Think.")
    scorer.check_student(tokenizer)
    (signal,) = scorer.score(PAIRS[1:2])
    start, rest = encode_pair(tokenizer, *PAIRS[1], "Think.")
    student = make_model(tokenizer, seed=1)
    teacher = TeacherTokens(torch.from_numpy(signal.top_ids), torch.from_numpy(signal.top_logprobs))
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        logits = student(torch.tensor([start + rest])).logits[0, len(start) - 1 : -1]
        loss = forward_kl(logits, teacher).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    if k is None:  # then it is the exact divergence
        with torch.inference_mode():
            exact = scorer.network(torch.tensor([start + rest])).logits[0, len(start) - 1 : -1].log_softmax(-1)
            q = student(torch.tensor([start + rest])).logits[0, len(start) - 1 : -1].log_softmax(-1)
            kl = (exact.exp() * (exact - q)).sum(-1).mean()
            torch.testing.assert_close(forward_kl(q, teacher).mean(), kl, rtol=1e-4, atol=1e-5)
