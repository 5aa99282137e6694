from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from isodistill.errors import IsodistillError
from isodistill.isomers import IsomerSet, generate, make_config, read_split, verify_set
from isodistill.isomers import generate as generate_function
from isodistill.isomers.drafts import open_draft
from isodistill.isomers.packs import load_pack

generator = sys.modules[generate_function.__module__]
VALUES: dict[str, Any] = {
    "sets": 50,
    "validation_sets": 0,
    "test_sets": 12,
    "domains": ("law", "nonce:3"),
    "unseen_domains": ("music",),
    "shortcut": {"rate": 0.8},
    "max_sets_per_skeleton": 2,
    "depth": (1, 2),
}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("stop_after", [25, 57])
def test_an_interrupted_run_goes_on_and_ends_in_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    monkeypatch.setattr(generator, "PIECE", 10)
    config = make_config(**VALUES)
    whole = generate(config, tmp_path / "whole")
    calls = 0

    def interrupt(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(config, tmp_path / "data", interrupt)
    assert not (tmp_path / "data").exists()
    report = generate(config, tmp_path / "data")
    assert report.resumed == (stop_after - 1) // 10 * 10
    assert contents(tmp_path / "data") == contents(tmp_path / "whole")
    assert (report.members, report.answers, report.rejected) == (whole.members, whole.answers, whole.rejected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "whole"]


def test_a_killed_process_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom isodistill.isomers import generate, make_config\n"
        "sys.modules[generate.__module__].PIECE = 10\n"
        f"generate(make_config(**{VALUES!r}), Path({str(tmp_path / 'data')!r}))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    note = tmp_path / ".data.draft" / "train-00001.json"
    deadline = time.monotonic() + 60
    while not note.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    monkeypatch.setattr(generator, "PIECE", 10)
    assert generate(make_config(**VALUES), tmp_path / "data").resumed >= 20
    generate(make_config(**VALUES), tmp_path / "whole")
    assert contents(tmp_path / "data") == contents(tmp_path / "whole")


def test_a_draft_of_another_config_is_not_continued(tmp_path: Path) -> None:
    with open_draft(tmp_path / "data", "one") as draft:
        (draft.folder / "train-00000.json").write_text('{"problems": 5, "state": {}}')
        assert [piece.problems for piece in draft.pieces("train")] == [5]
        with (
            pytest.raises(IsodistillError, match="Another process is writing"),
            open_draft(tmp_path / "data", "one"),
        ):
            pass
    with open_draft(tmp_path / "data", "one") as draft:
        (draft.folder / "train-00001.json").write_text('{"problems"')
        with pytest.raises(IsodistillError, match=r"train-00001.json is damaged; delete the folder"):
            draft.pieces("train")
    with open_draft(tmp_path / "data", "two") as draft:
        assert draft.pieces("train") == []


def test_a_data_set_brings_the_packs_that_were_files(tmp_path: Path) -> None:
    data = {**load_pack("nonce:9").model_dump(mode="json"), "id": "pirates", "title": "Pirates"}
    file = tmp_path / "pirates.yaml"
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    config = make_config(
        sets=3, validation_sets=0, test_sets=0, domains=(str(file), "law"), unseen_domains=(), family="syllogism"
    )
    assert config.domains == ("pirates", "law")
    out = tmp_path / "data"
    generate(config, out)
    # Another process knows the pack only from the data set itself.
    script = (
        "import sys\nfrom pathlib import Path\nfrom isodistill.isomers import read_split, verify_set\n"
        "for row in read_split(Path(sys.argv[1]), 'train'):\n    verify_set(row)\n    print(*row.domains)\n"
    )
    shown = subprocess.run([sys.executable, "-c", script, str(out)], capture_output=True, text=True, check=True)
    assert shown.stdout == "pirates law\n" * 3
    assert "Pirates: 64 individuals" in (out / "README.md").read_text(encoding="utf-8")
    data["id"] = "law"
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    with pytest.raises(IsodistillError, match="takes the id 'law' of a built-in pack"):
        make_config(domains=(str(file),))


def test_many_nonce_domains_make_one_set(tmp_path: Path) -> None:
    domains = tuple(f"nonce:{seed}" for seed in range(32))
    config = make_config(sets=1, validation_sets=0, test_sets=0, domains=domains, unseen_domains=(), family="ordering")
    generate(config, tmp_path / "data")
    rows: list[IsomerSet] = read_split(tmp_path / "data", "train")
    assert all(row.domains == domains for row in rows)
    for row in rows:
        verify_set(row)
