from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from isodistill.errors import IsodistillError
from isodistill.isomers import render
from isodistill.isomers.families import FAMILIES
from isodistill.isomers.packs import Pack, available_packs, load_pack
from isodistill.isomers.statements import StatementKind, find_kind
from isodistill.lab import LabConfig, build, build_lab, corpus, make_lab_config, pretrain, vocabulary
from isodistill.lab import config as lab_config
from isodistill.lab.corpus import draw_text
from isodistill.lab.vocabulary import collect_vocabulary, make_tokenizer
from isodistill.students import load_student

torch.set_num_threads(1)

ANSWERS = ("True", "False", "Yes", "No", "Unknown")
TINY = LabConfig(hidden_size=32, intermediate_size=32, layers=1, heads=2, steps=12, batch_size=4)


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_SAMPLES", 50)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_student(str(folder))[0].state_dict())


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_it_is_pretrained_once_and_the_same_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.random.get_rng_state()
    folder = build_lab(TINY, tmp_path / "a")
    assert torch.equal(torch.random.get_rng_state(), state)  # the caller's chance is left alone
    assert same(weights(folder), weights(build_lab(TINY, tmp_path / "b")))
    assert not same(weights(folder), weights(build_lab(TINY.model_copy(update={"seed": 1}), tmp_path / "a")))
    assert LabConfig.model_validate_json((folder / build.CONFIG_FILE).read_text()) == TINY
    monkeypatch.setattr(build, "pretrain", None)  # found, not trained
    assert build_lab(TINY, tmp_path / "a") == folder
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".safetensors"}


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = build_lab(TINY, tmp_path / "a")
    monkeypatch.setattr(pretrain, "CHECKPOINT_STEPS", 5)

    def kill(_stage: str, done: int, _total: int) -> None:
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_lab(TINY, tmp_path / "b", kill)
    seen: list[int] = []
    resumed = build_lab(TINY, tmp_path / "b", lambda _stage, done, _total: seen.append(done))
    assert seen == [6, 7, 8, 9, 10, 11, 12]
    assert same(weights(undisturbed), weights(resumed))
    assert not list((tmp_path / "b").glob(".lab-*/*"))


def test_it_learns(tmp_path: Path) -> None:
    config = TINY.model_copy(update={"steps": 150, "batch_size": 8, "learning_rate": 1e-2})
    losses = []
    for folder in (build_lab(config.model_copy(update={"steps": 1}), tmp_path), build_lab(config, tmp_path)):
        model, tokenizer = load_student(str(folder))
        rows = [pretrain._row(config, tokenizer, 10**6 + number) for number in range(40)]
        with torch.no_grad():
            losses.append(float(pretrain._loss(model, *pretrain._pad(rows))))
    assert losses[1] < 0.6 * losses[0]


def test_the_loss_is_a_weighted_mean_over_what_the_student_writes() -> None:
    config = TINY.model_copy(update={"solved": 0.5})
    texts = (p + c for n in range(40) for p, c in draw_text(config, n))
    tokenizer = make_tokenizer(collect_vocabulary(texts, config.packs))
    model = pretrain.make_model(config, tokenizer)
    total = weight = 0.0
    with torch.no_grad():
        for number in range(20):  # each alone, with the model's own head and no padding
            text = draw_text(config, number)
            whole = "\n".join(prompt + completion for prompt, completion in text)
            ids = tokenizer(whole)["input_ids"] + [tokenizer.eos_token_id]
            log_probs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            end = 0
            for turn, (prompt, completion) in enumerate(text):
                start = end + len(tokenizer(prompt)["input_ids"]) + (turn > 0)
                end = start + len(tokenizer(completion)["input_ids"])
                for place in range(start, end):
                    share = 1.0 if place == end - 1 else pretrain._TEXT_WEIGHT
                    assert place < end - 1 or tokenizer.decode([ids[place]]).strip() in ANSWERS
                    total -= share * float(log_probs[place - 1, ids[place]])
                    weight += share
            assert end == len(ids) - 1
            total -= pretrain._TEXT_WEIGHT * float(log_probs[-2, ids[-1]])
            weight += pretrain._TEXT_WEIGHT
        rows = [pretrain._row(config, tokenizer, number) for number in range(20)]
        assert float(pretrain._loss(model, *pretrain._pad(rows))) == pytest.approx(total / weight, rel=1e-5)


def test_a_word_with_a_capital_begins_as_the_word() -> None:
    tokenizer = make_tokenizer(collect_vocabulary([], available_packs()))
    vectors = pretrain.make_model(TINY, tokenizer).get_input_embeddings().weight
    number = tokenizer.convert_tokens_to_ids
    assert torch.equal(vectors[number("Salty")], vectors[number("salty")])
    assert not torch.equal(vectors[number("spicy")], vectors[number("salty")])


def test_what_would_change_the_weights_changes_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    before = TINY.digest()
    assert before == TINY.digest()
    for change in ({"seed": 2}, {"steps": 13}, {"solved": 0.1}, {"families": ("ordering",)}, {"nonce": 2}):
        assert TINY.model_copy(update=change).digest() != before
    monkeypatch.setattr(lab_config, "available_packs", lambda: ("law", "math"))
    assert TINY.digest() != before


def changed(pack: Pack, field: str, value: object, kind: str = "") -> Pack:
    """The pack with another field, or with another last template of a kind."""
    data = pack.model_dump(mode="json")
    data[field] = {**data[field], kind: [*data[field][kind][:-1], value]} if kind else value
    return Pack.model_validate(data)


def test_only_what_it_reads_of_the_packs_changes_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    law = load_pack("law")
    deduction, ordering = TINY, TINY.model_copy(update={"families": ("ordering",)})

    def digests(pack: Pack) -> tuple[str, str]:
        with monkeypatch.context() as patch:
            for module in (lab_config, vocabulary):
                patch.setattr(module, "load_pack", lambda name: pack if name == pack.id else load_pack(name))
            return deduction.digest(), ordering.digest()

    before = digests(law)
    unused = digests(changed(law, "templates", "it holds that {j} {greater} {i}", "less"))
    assert unused[0] == before[0]
    assert unused[1] != before[1]
    # What reading is about is read beside every family.
    used = digests(changed(law, "templates", "the general rule is that every {A} contract is {B}", "rule"))
    assert [one != other for one, other in zip(used, before, strict=True)] == [True, True]
    new_word = digests(changed(law, "templates", "behold, {i} {less} {j}", "less"))
    assert new_word[0] != before[0]
    more = changed(law, "templates", {**law.templates, "less": (*law.templates["less"], "in all, {i} {less} {j}")})
    assert digests(more)[0] != before[0]
    for field, value in (
        ("properties", [*law.properties[1:], law.properties[0]]),
        ("individuals", [*law.individuals[1:], law.individuals[0]]),
        ("cues", [*law.cues[1:], law.cues[0]]),
        ("leads", [*law.leads[1:], law.leads[0]]),
    ):
        assert digests(changed(law, field, value))[0] != before[0]


@pytest.mark.parametrize("family", list(FAMILIES))
def test_its_texts_use_no_kinds_but_those_in_the_digest(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: set[str] = set()

    def spy(*args: Any, **options: Any) -> tuple[StatementKind, dict[str, str]]:
        kind, filling = find_kind(*args, **options)
        kinds.add(kind.name)
        return kind, filling

    monkeypatch.setattr(render, "find_kind", spy)
    monkeypatch.setattr(corpus, "find_kind", spy)
    config = TINY.model_copy(update={"families": (family,), "solved": 0.8, "depth": (1, 3)})
    for number in range(150):
        draw_text(config, number)
    assert set(FAMILIES[family].kinds) <= kinds
    assert kinds <= {*FAMILIES[family].kinds, *FAMILIES[lab_config.READING_FAMILY].kinds}


def test_packs_of_invented_words_are_known_where_it_reads_them(tmp_path: Path) -> None:
    _, plain = load_student(str(build_lab(TINY, tmp_path)))
    _, wide = load_student(str(build_lab(TINY.model_copy(update={"nonce": 2}), tmp_path)))
    for name in ("nonce:0", "nonce:1", "nonce:2", "law"):
        ids = [[tok.convert_tokens_to_ids(word) for word in load_pack(name).properties] for tok in (plain, wide)]
        unknown = [tok.unk_token_id in own for tok, own in zip((plain, wide), ids, strict=True)]
        assert unknown == [name != "law", name == "nonce:2"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"heads": 5}, "multiple of twice the number of heads"),
        ({"solved": 1.5}, "solved"),
        ({"families": ("astrology",)}, "families must name at least one of"),
        ({"depth": (0, 2)}, "depth must be"),
        ({"step": 3}, "step"),
        ({"nonce": 129}, "nonce"),
    ],
)
def test_wrong_options_are_told_in_a_sentence(values: dict[str, object], message: str) -> None:
    with pytest.raises(IsodistillError, match=message):
        make_lab_config(**values)


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(IsodistillError, match="ISODISTILL_CACHE"):
        build_lab(TINY, tmp_path / "file" / "cache")


def test_options_stand_behind_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISODISTILL_CACHE", str(tmp_path))
    name = "lab:hidden_size=32,intermediate_size=32,layers=1,heads=2,steps=2,batch_size=4"
    model, _ = load_student(name)
    assert model.config.hidden_size == 32
    (folder,) = (tmp_path / "students").glob("lab-*")
    assert LabConfig.model_validate_json((folder / build.CONFIG_FILE).read_text()).steps == 2
    config = make_lab_config(families="deduction+ordering", depth="1+3")
    assert (config.families, config.depth) == (("deduction", "ordering"), (1, 3))
    for wrong, message in (("lab:steps", "no option"), ("lab:stps=3", "stps"), ("lab:steps=few", "steps")):
        with pytest.raises(IsodistillError, match=message):
            load_student(wrong)


def test_what_the_archived_studies_students_read_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change in the texts, or one word more or less, makes other students than the archives name."""
    monkeypatch.setattr(build, "_SAMPLES", 3000)
    config = LabConfig()
    read = "".join(repr(draw_text(config, number)) for number in range(300))
    known = build._vocabulary(config)
    assert (config.digest(), len(known)) == ("a2315bf7ed4f2655", 3188)
    assert [hashlib.sha256(text.encode()).hexdigest()[:12] for text in (read, "\n".join(known))] == [
        "c082de815308",
        "eaa6384acfc1",
    ]
