"""Files from strangers: whatever is in them, they open or are refused in one sentence.

Good checkpoints, bundles, adapters, imports, requests and what the pages show of bundles (`toy_strangers`) are changed
at random (`toy_harm`): bytes, lengths, numbers and words of their JSON, code in templates, links out of the folder. A
few seconds of it belong to every run, with one of the costly kinds; STUDIO_FUZZ=10000 asks for that many of all kinds,
in a process whose memory is limited; STUDIO_FUZZ_SEED gives others, STUDIO_FUZZ_SECONDS ends it early.
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
import traceback
from pathlib import Path

import pytest
import toy_bundle
import toy_strangers
from toy_strangers import Stranger

from engine import files
from engine.config import UserError
from engine.inference import load
from engine.inference.session import Session
from engine.model import pretrained

SECONDS = 3.0
HANGS_AFTER_SECONDS = 120
CHEAP, COSTLY = ("checkpoint", "bundle", "request", "imported"), ("adapted", "judge", "pages")
LINKS = 0.02        # of the changes to bundles put a link to the canary in the place of a file


def campaign(world: Path, kinds: tuple[str, ...], count: int, seconds: float, seed: int) -> dict[str, dict]:
    """Of each kind, how many changed files were let in, how many refused, how many seconds the slowest took, and which
    ended in anything but a UserError of one line."""
    strangers = toy_strangers.known(world, kinds)
    found = {kind: {"opened": 0, "refused": 0, "slowest": 0.0, "crashed": []} for kind in kinds}
    weights, begun = [strangers[kind].weight for kind in kinds], time.monotonic()
    for number in range(count):
        if time.monotonic() - begun > seconds:
            break
        dice = random.Random(seed * 1_000_003 + number)
        kind = dice.choices(kinds, weights)[0]
        started, counts = time.monotonic(), found[kind]
        try:
            counts[attempt(world, strangers[kind], dice)] += 1
        except BaseException as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            counts["crashed"].append(f"seed {seed}, number {number}: {type(error).__name__} in {place.filename}, line "
                                     f"{place.lineno}: {str(error)[:300]}")
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
        counts["slowest"] = max(counts["slowest"], round(time.monotonic() - started, 2))
    return found


def attempt(world: Path, stranger: Stranger, dice: random.Random) -> str:
    """One change to one file of a stranger, and what came of it: "opened" or "refused". All is as it was then."""
    whole, name = stranger.folder, dice.choice(list(stranger.plan))
    good = (whole / name).read_bytes()
    signed = (whole / files.MANIFEST).read_bytes() if stranger.vouched else b""
    faulthandler.dump_traceback_later(HANGS_AFTER_SECONDS, exit=True)
    try:
        if stranger.vouched and dice.random() < LINKS:
            (whole / name).unlink()
            (whole / name).symlink_to(world / "canary" / "secret")
        else:
            put(whole / name, dice.choice(stranger.plan[name])(good, dice))
        if stranger.vouched and name != files.MANIFEST:
            toy_bundle.declare(whole)
        stranger.use(name)
        return "opened"
    except UserError as error:
        if "\n" in error.sentence:
            raise AssertionError(f"not one line: {error.sentence}") from error
        return "refused"
    finally:
        faulthandler.cancel_dump_traceback_later()
        put(whole / name, good)
        if signed:
            put(whole / files.MANIFEST, signed)


def put(path: Path, data: bytes) -> None:
    """Another file in a file's place: whoever has the old one mapped into memory keeps it."""
    path.unlink()
    path.write_bytes(data)


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder by its content, and every link by where it leads."""
    return {str(path.relative_to(folder)): f"-> {os.readlink(path)}" if path.is_symlink() else
            files.fingerprint_file(path) for path in folder.rglob("*") if path.is_symlink() or path.is_file()}


@pytest.fixture(scope="module")
def kinds():
    return (*CHEAP, *COSTLY) if os.environ.get("STUDIO_FUZZ") else (*CHEAP, random.choice(COSTLY))


@pytest.fixture(scope="module")
def world(tmp_path_factory, kinds):
    folder = tmp_path_factory.mktemp("fuzz")
    toy_strangers.make(folder / "world", kinds)
    toy_strangers.known(folder / "world", kinds)
    return folder / "world"


def test_changed_files_open_or_are_refused(world, kinds, one_thread):
    before = contents(world.parent)
    wanted = int(os.environ.get("STUDIO_FUZZ", "0"))
    if wanted:
        code = ("import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30));"
                "import json; from pathlib import Path; from test_inference_fuzz import campaign;"
                "print(json.dumps(campaign(Path(sys.argv[1]), tuple(sys.argv[5:]), int(sys.argv[2]), "
                "float(sys.argv[3]), int(sys.argv[4]))))")
        paths = [str(Path(__file__).parent), *map(str, Path(__file__).parents[1:3])]
        asked = [os.environ.get("STUDIO_FUZZ_SECONDS", "1e9"), os.environ.get("STUDIO_FUZZ_SEED", "1")]
        done = subprocess.run([sys.executable, "-c", code, str(world), str(wanted), *asked, *kinds],
                              env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        found = json.loads(done.stdout.splitlines()[-1])
        print("\n".join(f"{kind}: {counts}" for kind, counts in found.items()), flush=True)
    else:
        found = campaign(world, kinds, 10_000, SECONDS, seed=1)
    assert [sentence for counts in found.values() for sentence in counts["crashed"]] == []
    assert sum(counts["refused"] for counts in found.values()) > 0
    after = contents(world.parent)
    assert {name for name in {*before, *after} if before.get(name) != after.get(name)} == set(), \
        "no file appeared, vanished or changed, in the workspace or outside"
    load(shutil.copytree(world / "workspace" / "bundles" / "toy", world / "again")).generate("kalo", 2)


def test_a_bomb_of_a_tokenizer_is_not_even_parsed(world, monkeypatch, tmp_path):
    bomb = shutil.copytree(world / "workspace" / "bundles" / "toy", tmp_path / "bomb")
    monkeypatch.setitem(files.MOST_BYTES, "tokenizer.json", 1000)
    with pytest.raises(UserError, match=r"tokenizer\.json has [\d,]+ bytes, and no honest one has more than 1,000"):
        load(bomb)


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"vocab_size": 2**62}, "vocab_size"), ({"hidden_size": 2**40}, "hidden_size"),
    ({"num_hidden_layers": 10**9}, "num_layers"), ({"max_position_embeddings": 10**15}, "context_length"),
    ({"intermediate_size": 2**62}, "intermediate_size"), ({"rope_parameters": {"rope_theta": 1e400}}, "rope_theta"),
])
def test_absurd_shapes_cost_no_memory(world, tmp_path, changes, sentence):
    checkpoint = shutil.copytree(world / "workspace" / "bundles" / "checkpoint", tmp_path / "absurd")
    files.write_json(checkpoint / "config.json", {**files.read_json(checkpoint / "config.json"), **changes})
    with pytest.raises(UserError, match=sentence):
        pretrained.load(checkpoint)


def test_a_graph_whose_names_are_no_text_is_refused(tmp_path):
    graph = toy_bundle.bundle(tmp_path) / "onnx" / "model.onnx"
    good = graph.read_bytes()
    assert good.count(b"past_sequence_length")
    graph.write_bytes(good.replace(b"past_sequence_length", b"past_sequence_lengt\xc0"))
    with pytest.raises(UserError, match="could not be read by onnxruntime"):
        Session(graph)
