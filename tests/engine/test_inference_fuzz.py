"""Files from strangers: whatever is in them, they open or are refused in one sentence.

Good checkpoints and bundles are changed at random: bytes, lengths, numbers and words of their JSON. A few
seconds of it belong to every run; STUDIO_FUZZ=10000 asks for that many, in a process whose memory is limited.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import toy_bundle

from engine import files
from engine.config import UserError
from engine.inference import load
from engine.model import pretrained

SECONDS = 3.0
HANGS_AFTER_SECONDS = 60
ABSURD = [None, True, -1, 0, 0.5, 1e308, 2**31, 2**63, 10**30, "", "../../../etc/passwd", "\x00", [], {}, [[[]]], "NaN",
          {"a": {"b": []}}, ["x"] * 100, float("nan"), -(2**63)]


def places(value, path=()) -> Iterator[tuple]:
    """Where something stands in a JSON value."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def changed_json(data: bytes, dice: random.Random) -> bytes:
    """One value in it replaced, dropped, or put somewhere else."""
    value = json.loads(data)
    known = list(places(value))
    if not known:
        return data
    *way, last = dice.choice(known)
    inside = value
    for key in way:
        inside = inside[key]
    if isinstance(inside, dict) and dice.random() < 0.25:
        del inside[last]
    else:
        inside[last] = dice.choice(ABSURD)
    return json.dumps(value).encode()


def changed_bytes(data: bytes, dice: random.Random) -> bytes:
    made = bytearray(data)
    for _ in range(dice.choice((1, 1, 3, 20))):
        at, how = dice.randrange(max(1, len(made))), dice.randrange(5)
        if how == 0:
            made[at:at + 1] = bytes([dice.randrange(256)])
        elif how == 1:
            del made[at:at + dice.choice((1, 8, 500))]
        elif how == 2:
            made[at:at] = bytes(dice.randrange(256) for _ in range(dice.choice((1, 8, 100))))
        elif how == 3:
            made[at:] = b""
        else:
            made[at:at + 8] = dice.choice((b"\xff" * 8, b"\x00" * 8, b"\xff" * 7 + b"\x7f"))
    return bytes(made)


def changed_header(data: bytes, dice: random.Random) -> bytes:
    """The JSON at the head of a safetensors file changed, its length told rightly."""
    size = int.from_bytes(data[:8], "little")
    head = changed_json(data[8:8 + size], dice)
    return len(head).to_bytes(8, "little") + head + data[8 + size:]


def declare(bundle: Path) -> None:
    """A manifest that vouches for the files as they are, as one who forges a bundle would write it."""
    manifest = files.read_json(bundle / files.MANIFEST)
    names = [str(p.relative_to(bundle)) for p in bundle.rglob("*") if p.is_file() and p.name != files.MANIFEST]
    manifest["files"] = {name: (bundle / name).stat().st_size for name in names}
    manifest["checksums"] = {name: files.fingerprint_file(bundle / name) for name in names}
    files.write_json(bundle / files.MANIFEST, manifest)


CHECKPOINT = {"config.json": (changed_json, changed_bytes), "model.safetensors": (changed_header, changed_bytes)}
BUNDLE = {"config.json": (changed_json,), "tokenizer.json": (changed_json, changed_bytes),
          "tokenizer_config.json": (changed_json, changed_bytes), "onnx/model.onnx": (changed_bytes,),
          "manifest.json": (changed_json, changed_bytes)}


def campaign(checkpoint: Path, bundle: Path, count: int, seconds: float, seed: int) -> dict[str, int]:
    """How many changed files opened and how many were refused; anything else comes out as it is."""
    found, begun = {"opened": 0, "refused": 0}, time.monotonic()
    for number in range(count):
        if time.monotonic() - begun > seconds:
            break
        dice = random.Random(seed * 1_000_003 + number)
        whole, plan = (checkpoint, CHECKPOINT) if dice.random() < 0.5 else (bundle, BUNDLE)
        name = dice.choice(list(plan))
        good = (whole / name).read_bytes()
        signed = (whole / files.MANIFEST).read_bytes() if whole is bundle else b""
        faulthandler.dump_traceback_later(HANGS_AFTER_SECONDS, exit=True)
        try:
            (whole / name).write_bytes(dice.choice(plan[name])(good, dice))
            if whole is checkpoint:
                pretrained.load(checkpoint)
            else:
                if name != files.MANIFEST:
                    declare(bundle)
                model = load(bundle)
                model.generate("kalo mi", 2, seed=1)
                if name == "tokenizer_config.json":
                    model.chat([{"role": "user", "content": "kalo"}])
            found["opened"] += 1
        except UserError as error:
            if "\n" in error.sentence:
                raise AssertionError(f"seed {seed}, number {number}: {error.sentence}") from error
            found["refused"] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}, number {number}: {name} ended in {type(error).__name__}: {error}") \
                from error
        finally:
            faulthandler.cancel_dump_traceback_later()
            (whole / name).write_bytes(good)
            if signed:
                (whole / files.MANIFEST).write_bytes(signed)
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "inside").mkdir()
    bundle = toy_bundle.bundle(folder / "inside")
    settings = files.read_json(bundle / "tokenizer_config.json")
    files.write_json(bundle / "tokenizer_config.json", {
        **settings, "chat_template": "{% for m in messages %}{{ m['content'] }}{% endfor %}"})
    declare(bundle)
    return folder / "inside"


def listing(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_size for p in folder.rglob("*") if p.is_file()}


def test_changed_files_open_or_are_refused(world, one_thread):
    before = listing(world.parent)
    wanted = int(os.environ.get("STUDIO_FUZZ", "0"))
    if wanted:
        code = ("import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30));"
                "import json; from pathlib import Path; from test_inference_fuzz import campaign;"
                "print(json.dumps(campaign(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), 1e9, 1)))")
        paths = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
        done = subprocess.run([sys.executable, "-c", code, str(world / "checkpoint"), str(world / "toy"), str(wanted)],
                              env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        found = json.loads(done.stdout.splitlines()[-1])
        print(found)
    else:
        found = campaign(world / "checkpoint", world / "toy", 10_000, SECONDS, seed=int(time.time()))
    assert found["refused"] > 0
    assert listing(world.parent) == before, "no file appeared, vanished or grew"
    load(shutil.copytree(world / "toy", world / "again")).generate("kalo", 2)


def test_a_bomb_of_a_tokenizer_is_not_even_parsed(world, monkeypatch, tmp_path):
    bomb = shutil.copytree(world / "toy", tmp_path / "bomb")
    monkeypatch.setitem(files.MOST_BYTES, "tokenizer.json", 1000)
    with pytest.raises(UserError, match=r"tokenizer\.json has [\d,]+ bytes, and no honest one has more than 1,000"):
        load(bomb)


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"vocab_size": 2**62}, "vocab_size"), ({"hidden_size": 2**40}, "hidden_size"),
    ({"num_hidden_layers": 10**9}, "num_layers"), ({"max_position_embeddings": 10**15}, "context_length"),
    ({"intermediate_size": 2**62}, "intermediate_size"), ({"rope_parameters": {"rope_theta": 1e400}}, "rope_theta"),
])
def test_absurd_shapes_cost_no_memory(world, tmp_path, changes, sentence):
    checkpoint = shutil.copytree(world / "checkpoint", tmp_path / "absurd")
    files.write_json(checkpoint / "config.json", {**files.read_json(checkpoint / "config.json"), **changes})
    with pytest.raises(UserError, match=sentence):
        pretrained.load(checkpoint)
