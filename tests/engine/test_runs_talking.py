"""The Test page's work on the command line, from bundles and from checkpoints."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys

import pytest
import toy_bundle
import toy_chat
from planted import plant

from engine import files
from engine.inference import load
from engine.inference.conversation import answer
from studio.cli import main


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """A bundle that continues, one that answers, and their checkpoints."""
    plain, chats = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("chats")
    return toy_bundle.bundle(plain), toy_chat.bundle(chats)


@pytest.fixture
def placed(workspace, toys):
    for name, toy in zip(("plain", "chats"), toys, strict=True):
        shutil.copytree(toy, workspace.place("bundles") / name)
        checkpoint = plant(workspace, f"{name}-run", steps=1).path / "checkpoints" / "step-000001"
        shutil.copytree(toy.parent / "checkpoint", checkpoint)
        files.write_json(checkpoint / "meta.json", {"step": 1})
    return workspace


def said(capsys, *line):
    code = main([*line])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    return shown.out


def test_probabilities_are_the_models(placed, toys, capsys):
    told = said(capsys, "generate", "plain", "kalo", "--max-new-tokens", "5", "--seed", "3", "--probabilities")
    tokens = list(load(toys[0]).tokens("kalo", 5, seed=3, alternatives=5))
    assert told.startswith("kalo" + "".join(token.text for token in tokens) + "\n")
    rows = told.splitlines()[-6:-1]
    for token, row in zip(tokens, rows, strict=True):
        assert f"{token.probability:.1%}" in row
        assert all(f"{share:.1%}" in row for number, _, share in token.alternatives if number != token.id)
    assert "mean surprise" in told.splitlines()[-1]


def test_two_write_the_same_prompt_with_the_same_dice(placed, toys, capsys):
    told = said(capsys, "generate", "plain", "kalo", "--max-new-tokens", "8", "--beside", "plain-run")
    one, two = told.split("== plain-run, checkpoint step-000001\n")
    assert one.removeprefix("== plain\n").strip() == two.strip(), "a bundle and its checkpoint are the same model"


def test_a_checkpoint_speaks_by_each_of_its_names(placed, toys, capsys):
    expected = "kalo" + load(toys[0]).generate("kalo", 6, seed=2) + "\n"
    for name in ("plain-run", "plain-run/step-000001", "plain-run, checkpoint step-000001"):
        assert said(capsys, "generate", name, "kalo", "--max-new-tokens", "6", "--seed", "2") == expected
    assert main(["generate", "plain-run", "kalo", "--precision", "int4"]) == 2
    assert "is a checkpoint, which has neither other precisions" in capsys.readouterr().err


def test_a_set_of_prompts_and_its_report(placed, toys, tmp_path, capsys):
    (tmp_path / "p.jsonl").write_text('{"prompt": "kalo"}\n{"prompt": "mi né"}\n{\n')
    told = said(capsys, "generate", "plain", "--prompts", str(tmp_path / "p.jsonl"), "--report",
                str(tmp_path / "r.jsonl"), "--seed", "5", "--max-new-tokens", "6")
    rows = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    model = load(toys[0])
    assert [row["text"] for row in rows[:2]] == [model.generate("kalo", 6, seed=5), model.generate("mi né", 6, seed=6)]
    assert "3: line 3 is no JSON" in told
    assert "3 prompts, 1 not written, 12 tokens" in told
    assert "seed 5" in told


def test_a_report_that_stands_there_stays_until_there_is_another(placed, tmp_path, monkeypatch, capsys):
    (tmp_path / "p.txt").write_text("kalo\n" + "kalo mi " * 200 + "\nmi\n")
    report = tmp_path / "r.jsonl"
    report.write_text("the earlier one")
    line = ["generate", "plain", "--prompts", str(tmp_path / "p.txt"), "--report", str(report), "--seed", "1"]
    assert main([*line, "--temperature", "-1"]) == 2
    assert report.read_text() == "the earlier one"

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("engine.inference.batch.groups", interrupted)   # once the refused prompts have been told
    with pytest.raises(KeyboardInterrupt):
        main(line)
    assert [json.loads(row)["number"] for row in report.read_text().splitlines()] == [1], "what there was is kept"


@pytest.mark.parametrize(("more", "sentence"), [
    ([], "there is nothing to continue"),
    (["kalo", "--report", "r.md"], "name their file with --prompts"),
    (["kalo", "--prompts", "p.txt"], "leave PROMPT out"),
    (["--prompts", "absent.txt"], "could not be read"),
    (["kalo", "--beside", "nobody"], "nobody is neither a bundle nor a folder; there are"),
    (["kalo", "--temperature", "-1"], "temperature is -1"),
])
def test_what_makes_no_sense_is_refused(placed, capsys, more, sentence):
    assert main(["generate", "plain", *more]) == 2
    shown = capsys.readouterr()
    assert sentence in shown.err
    assert shown.out == ""


def test_a_conversation_from_a_pipe(placed, toys, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("kalo?\n\n/again\nmi\n/clear\n/system brief\nkalo?\n/quit\nnever\n"))
    told = said(capsys, "chat", "chats", "--seed", "9", "--max-new-tokens", "7").split("\n")
    model = load(toys[1])

    def answered(*messages, seed=9, system=""):
        turns = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(messages)]
        first = [{"role": "system", "content": system}] if system else []
        return "".join(token.text for token in answer(model, [*first, *turns], seed=seed, max_new_tokens=7))

    again = answered("kalo?", seed=10)
    expected = [answered("kalo?"), again, answered("kalo?", again, "mi"), answered("kalo?", system="brief")]
    assert "\n".join(told).rstrip("\n") == "\n".join(expected).rstrip("\n")


def test_a_conversation_needs_a_template_and_room(placed, capsys, monkeypatch):
    assert main(["chat", "plain"]) == 2
    assert "has no chat template" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO("kalo " * 200))
    assert main(["chat", "chats"]) == 2
    assert "needs room for an answer" in capsys.readouterr().err


def test_a_checkpoint_answers_too(placed, toys, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("kalo?\n"))
    told = said(capsys, "chat", "chats-run", "--seed", "1", "--max-new-tokens", "5")
    tokens = answer(load(toys[1]), [{"role": "user", "content": "kalo?"}], seed=1, max_new_tokens=5)
    assert told == "".join(token.text for token in tokens) + "\n"


def test_the_same_text_in_pytorch_and_onnxruntime(placed, toys, capsys):
    told = said(capsys, "differ", "plain", "kalo mi sané")
    count = len(load(toys[0]).encode("kalo mi sané"))
    assert len(told.splitlines()) == count + 2
    assert float(told.split()[-1]) < 1e-3
    assert main(["differ", "plain-run", "kalo"]) == 2
    assert "is a checkpoint" in capsys.readouterr().err


def test_a_bundle_is_talked_to_without_torch(placed, toys):
    code = ("import sys; from engine.__main__ import main;"
            f"main(['generate', {str(toys[0])!r}, 'kalo', '--max-new-tokens', '3', '--probabilities']);"
            "print('torch' in sys.modules, 'panel' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False"
