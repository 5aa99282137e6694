"""Token-level distillation in the trainer: against sums written out, with the methods, from the store, and refusals."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from method_runs import DISTILLED, adapter_of, make_teacher, run_case
from peft import LoraConfig, get_peft_model
from tiny_student import DOMAINS, WORDS, lora, make_model, make_sets, make_tokenizer
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from isodistill.cli.train import parse_arguments
from isodistill.errors import IsodistillError
from isodistill.teachers.scoring import Scorer, signal_key
from isodistill.traces import TokenSignal, TraceStore
from isodistill.traces.signals import vocabulary_digest
from isodistill.trainer import DIAGNOSTICS_FILE, IsomerConfig
from isodistill.trainer.objective import Objective

V = len(WORDS) + 3
ONE_STEP = {"max_steps": 1, "learning_rate": 5.0}


def difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def pairs_of(sets: Any) -> list[tuple[str, str]]:
    return [(member["prompt"], member["completion"]) for row in sets for member in row["members"]]


def filled(path: Path, k: int, sets: Any = None, name: str = "tiny", tokenizer: Any = None) -> dict[str, Any]:
    """A store with the teacher's distributions over the data; returns the options that use it."""
    with TraceStore(path) as store:
        scorer = Scorer(make_teacher().eval(), tokenizer or make_tokenizer(), name, k, store=store)
        scorer.score(pairs_of(make_sets(16) if sets is None else sets))
    return {"distillation": "forward_kl", "distillation_store": str(path)}


def written_out(
    before: dict[str, torch.Tensor], kind: str, weight: float, temperature: float
) -> tuple[list[float], float, dict[str, torch.Tensor]]:
    """Domain losses, the mean divergence, and the adapter after one step of SGD, from both models' full logits."""
    model, teacher, tokenizer = get_peft_model(make_model(), lora()), make_teacher(), make_tokenizer()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data.copy_(before[name])
    losses: dict[str, list[torch.Tensor]] = {domain: [] for domain in DOMAINS}
    divergences = []
    for row in make_sets(16).select(range(4)):
        for member in row["members"]:
            start = tokenizer(member["prompt"] + "\n")["input_ids"]
            ids = start + tokenizer(member["completion"])["input_ids"] + [tokenizer.eos_token_id]
            places = slice(len(start) - 1, len(ids) - 1)
            logits = model(torch.tensor([ids])).logits[0, places]
            with torch.no_grad():
                p = (teacher(torch.tensor([ids])).logits[0, places] / temperature).log_softmax(-1)
            q = (logits / temperature).log_softmax(-1)
            m = torch.logaddexp(p, q) - torch.tensor(2.0).log()

            def kl(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
                return (a.exp() * (a - b)).sum(-1)

            found = {"forward_kl": kl(p, q), "reverse_kl": kl(q, p), "jsd": (kl(p, m) + kl(q, m)) / 2}[kind]
            labels = torch.tensor(ids[len(start) :])
            entropy = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
            losses[member["domain"]].append((1 - weight) * entropy + weight * found)
            divergences.append(found.detach())
    whole = {domain: torch.cat(parts) for domain, parts in losses.items()}
    torch.cat(list(whole.values())).mean().backward()
    after = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            after[name] = parameter.detach() - ONE_STEP["learning_rate"] * parameter.grad
    return [float(whole[domain].detach().mean()) for domain in DOMAINS], float(torch.cat(divergences).mean()), after


@pytest.mark.parametrize(("kind", "temperature"), [("forward_kl", 1.0), ("reverse_kl", 1.0), ("jsd", 2.0)])
def test_with_the_whole_vocabulary_it_is_exact(tmp_path: Path, kind: str, temperature: float) -> None:
    """Losses by domain, and one step's weights, equal those from the two models' full distributions."""
    before = adapter_of(run_case(tmp_path / "still", "erm", max_steps=1, learning_rate=0.0))
    more = {"distillation": kind, "distillation_weight": 0.7, "distillation_temperature": temperature}
    trainer = run_case(tmp_path, "erm", teacher=make_teacher(), distillation_top_k=V, **more, **ONE_STEP)
    losses, divergence, after = written_out(before, kind, 0.7, temperature)
    log = next(row for row in trainer.state.log_history if "loss" in row)
    assert [log[f"domain_loss/{domain}"] for domain in DOMAINS] == pytest.approx(losses, abs=1e-5)
    assert log["divergence"] == pytest.approx(divergence, abs=1e-5)
    assert difference(adapter_of(trainer), after) <= 1e-5
    assert difference(before, after) > 1e-2


def test_the_store_gives_what_the_teacher_gives(tmp_path: Path) -> None:
    """Packed as float16, the distributions of the store train to nearly the weights of the teacher itself."""
    options = filled(tmp_path / "t.sqlite", 6)
    stored = adapter_of(run_case(tmp_path / "a", "iga_factor", **options))
    live = {"distillation": "forward_kl", "distillation_top_k": 6, "teacher": make_teacher()}
    assert difference(stored, adapter_of(run_case(tmp_path / "b", "iga_factor", **live))) <= 1e-4
    assert difference(stored, adapter_of(run_case(tmp_path / "c", "iga_factor"))) > 1e-3


@pytest.mark.parametrize("case", ["vrex", "iga_factor", "iga_weight", "consistency", "koyama"])
def test_splitting_into_micro_batches_changes_nothing(tmp_path: Path, case: str) -> None:
    """One method of each kind of need: losses, both gradient spaces, forward pass, further passes."""
    options = filled(tmp_path / "t.sqlite", 6)
    whole = adapter_of(run_case(tmp_path / "a", case, **options))
    split = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    assert difference(whole, adapter_of(run_case(tmp_path / "b", case, **options, **split))) <= 1e-5


@pytest.mark.parametrize("case", ["iga_weight", "groupdro"])
def test_the_loop_engine_trains_to_the_same_weights(tmp_path: Path, case: str) -> None:
    options = DISTILLED | {"teacher": make_teacher()}
    tap = adapter_of(run_case(tmp_path / "a", case, **options))
    assert difference(tap, adapter_of(run_case(tmp_path / "b", case, engine="loop", **options))) <= 2e-5


@pytest.mark.parametrize("case", ["irm", "fishr", "fish", "word_dropout", "iga_with_consistency"])
def test_the_other_needs_train_too(tmp_path: Path, case: str) -> None:
    options = filled(tmp_path / "t.sqlite", 6)
    trainer = run_case(tmp_path, case, peft=lora(lora_dropout=0.1), gradient_checkpointing=True, **options)
    assert all(torch.isfinite(value).all() for value in adapter_of(trainer).values())
    losses = [row["loss"] for row in trainer.state.log_history if "divergence" in row]
    assert len(losses) == 2


def test_irm_reads_the_derivative_of_the_mixture() -> None:
    """-(log_probs + entropy) of the view is the loss's derivative in a scale of the logits, by finite differences."""
    from isodistill.trainer.forward import _scale_slopes

    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(9, V, generator=generator, dtype=torch.float64)
    teacher = torch.randn(9, V, generator=generator, dtype=torch.float64).log_softmax(-1).topk(5, dim=-1)
    args = IsomerConfig(output_dir="unused", use_cpu=True, distillation="reverse_kl", distillation_weight=0.4)
    labels = torch.full((1, 10), 4)
    batch = {"labels": labels, "teacher_ids": teacher.indices[None], "teacher_logprobs": teacher.values[None]}
    objective = Objective.of_batch(args, batch)
    assert objective is not None
    slopes = _scale_slopes(logits, objective.losses)
    step = 1e-5
    expected = (objective.losses(logits * (1 + step)) - objective.losses(logits * (1 - step))) / (2 * step)
    torch.testing.assert_close(slopes, expected, rtol=1e-5, atol=1e-6)
    # Without a divergence it is what IRM takes for the cross-entropy.
    plain = Objective(objective.divergence, 1.0, objective.labels, objective.teacher, objective.weight * 0)
    log_p = logits.log_softmax(-1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    torch.testing.assert_close(
        _scale_slopes(logits, plain.losses), -(log_p[:, 4] + entropy), rtol=1e-5, atol=1e-6, check_dtype=False
    )


def test_logits_are_formed_in_pieces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    options = DISTILLED | {"teacher": make_teacher()}
    whole = adapter_of(run_case(tmp_path / "a", "iga_weight", **options))
    monkeypatch.setattr("isodistill.trainer.objective._PIECE", 7)
    assert difference(whole, adapter_of(run_case(tmp_path / "b", "iga_weight", **options))) <= 1e-5


def test_the_student_comes_to_the_teacher(tmp_path: Path) -> None:
    """On the divergence alone it falls to a part; bf16 and a truncated end are no hindrance."""
    options = filled(tmp_path / "t.sqlite", 8)
    more = {"distillation_weight": 1.0, "optim": "adamw_torch", "learning_rate": 1e-2, "max_steps": 30, "bf16": True}
    trainer = run_case(
        tmp_path,
        "iga_factor",
        peft=LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"),
        max_length=12,
        **options,
        **(more | {"tau": 0.1}),
    )
    divergences = [row["divergence"] for row in trainer.state.log_history if "divergence" in row]
    assert divergences[-1] < 0.5 * divergences[0]
    line = json.loads((tmp_path / DIAGNOSTICS_FILE).read_text().splitlines()[0])
    assert line["domain_loss/law"] > 0


def test_a_teacher_with_an_adapter_is_heard(tmp_path: Path) -> None:
    base = make_teacher()
    teacher: Any = get_peft_model(copy.deepcopy(base), lora())
    with torch.no_grad():
        for name, parameter in teacher.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.05)
    options = {"distillation": "forward_kl", **ONE_STEP}
    plain = adapter_of(run_case(tmp_path / "a", "erm", teacher=base, **options))
    adapted = adapter_of(run_case(tmp_path / "b", "erm", teacher=teacher, **options))
    merged: LlamaForCausalLM = copy.deepcopy(teacher).merge_and_unload()
    assert difference(plain, adapted) > 1e-4
    assert difference(adapted, adapter_of(run_case(tmp_path / "c", "erm", teacher=merged, **options))) <= 1e-5


def other_tokenizer() -> PreTrainedTokenizerFast:
    """The student's, with two words exchanged."""
    words = ["<pad>", "<eos>", "<unk>", "w1", "w0", *WORDS[2:]]
    inner = Tokenizer(WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def test_another_vocabulary_is_refused_before_the_first_step(tmp_path: Path) -> None:
    options = filled(tmp_path / "t.sqlite", 4, tokenizer=other_tokenizer())
    with pytest.raises(IsodistillError, match="over another vocabulary than the student's"):
        run_case(tmp_path, "erm", **options)
    folder = tmp_path / "teacher"
    make_teacher().save_pretrained(folder)
    other_tokenizer().save_pretrained(folder)
    with pytest.raises(IsodistillError, match="2 tokens differ, such as 'w0'"):
        run_case(tmp_path, "erm", distillation="forward_kl", distillation_teacher=f"hf:{folder}")


def test_a_row_with_other_tokens_is_named(tmp_path: Path) -> None:
    prompt, completion = pairs_of(make_sets(16))[5]
    tokenizer = make_tokenizer()
    sets = make_sets(16)
    options = filled(tmp_path / "t.sqlite", 4, sets.select([0]))
    with TraceStore(tmp_path / "t.sqlite") as store:
        key = signal_key(tokenizer, prompt, completion)
        scorer = Scorer(make_teacher().eval(), tokenizer, "tiny", 4)
        (signal,) = scorer.score([(prompt, completion)])
        ids = signal.token_ids.copy()
        ids[2] += 1
        wrong = TokenSignal(ids, signal.top_ids, signal.top_logprobs)
        store.add_signal(*key, "tiny", vocabulary_digest(tokenizer), 4, wrong)
    with pytest.raises(
        IsodistillError, match=r"set s1, domain 'law': the trace store .* has no distributions of 'tiny'"
    ):
        run_case(tmp_path, "erm", **options)
    with TraceStore(tmp_path / "t.sqlite") as store:
        scorer = Scorer(make_teacher().eval(), tokenizer, "tiny", 4, store=store)
        scorer.score(pairs_of(sets))
    with pytest.raises(IsodistillError, match=r"set s1, domain 'math': the stored distributions are for other tokens"):
        run_case(tmp_path, "erm", **options)


def test_several_teachers_in_a_store_are_told_apart(tmp_path: Path) -> None:
    options = filled(tmp_path / "t.sqlite", 4)
    filled(tmp_path / "t.sqlite", 5, name="openai:m")
    with pytest.raises(IsodistillError, match=r"of several teachers \(openai:m, tiny\)"):
        run_case(tmp_path, "erm", **options)
    run_case(tmp_path, "erm", **options, distillation_teacher="hf:tiny", max_steps=1)
    run_case(tmp_path, "erm", **options, distillation_teacher="openai:m", max_steps=1)
    with pytest.raises(IsodistillError, match="with k = 4, not 9"):
        run_case(tmp_path, "erm", **options, distillation_teacher="hf:tiny", distillation_top_k=9)
    with pytest.raises(IsodistillError, match="only of openai:m, tiny"):
        run_case(tmp_path, "erm", **options, distillation_teacher="hf:large")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distillation": "kl"}, "choose one of forward_kl, reverse_kl, jsd"),
        ({"distillation_store": "t.sqlite"}, "distillation_store is given without distillation"),
        ({"on_policy_fraction": 0.5}, "on_policy_fraction is given without distillation"),
        ({"distillation": "jsd", "distillation_beta": 1.0}, r"distillation_beta=1\.0 is out of range"),
        ({"distillation": "jsd", "distillation_weight": 1.5}, r"distillation_weight=1\.5"),
        ({"distillation": "jsd", "distillation_temperature": 0.0}, "distillation_temperature"),
        ({"distillation": "jsd", "loss_type": "dft"}, "set loss_type='nll'"),
        ({"distillation": "jsd"}, "distillation needs a teacher"),
        ({"distillation": "jsd", "distillation_teacher": "openai:m"}, "needs a local model: give hf:PATH"),
        ({"distillation": "jsd", "distillation_store": "none.sqlite"}, "there is no trace store"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(IsodistillError, match=message):
        run_case(tmp_path, "erm", **options)


def test_every_option_is_a_flag_of_the_command_line() -> None:
    flags = {
        "distillation": "jsd",
        "distillation_weight": 0.8,
        "distillation_temperature": 2.0,
        "distillation_beta": 0.3,
        "distillation_teacher": "hf:x",
        "distillation_store": "t.sqlite",
        "distillation_top_k": 8,
        "on_policy_fraction": 0.5,
        "on_policy_every": 2,
        "on_policy_temperature": 0.9,
        "on_policy_max_new_tokens": 64,
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    _, config = parse_arguments(["--data", "d", "--output_dir", "o", "--use_cpu", "true", *words])
    assert {name: getattr(config, name) for name in flags} == flags


def test_teachers_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(IsodistillError, match="teacher_model is given and nothing asks for it"):
        run_case(tmp_path, "erm", teacher=make_teacher())
    wide = make_model()
    wide.resize_token_embeddings(V + 8)
    with pytest.raises(IsodistillError, match=f"has {V + 8} places and the student's {V}"):
        run_case(tmp_path, "erm", teacher=wide, distillation="jsd")
    with pytest.raises(IsodistillError, match=f"distillation_top_k={V + 1} is more than"):
        run_case(tmp_path, "erm", teacher=make_teacher(), distillation="jsd", distillation_top_k=V + 1)
    with TraceStore(tmp_path / "empty.sqlite"):
        pass
    with pytest.raises(IsodistillError, match="has no token distributions; make them with"):
        run_case(tmp_path, "erm", distillation="jsd", distillation_store=str(tmp_path / "empty.sqlite"))
