"""A bundle is timed beside other ways of running it, all write the same text, and a failure is one row's own."""

from __future__ import annotations

import psutil
import pytest
import toy_bundle

from engine import files
from engine.config import UserError, read
from engine.export.benchmark import RESULT, BenchmarkConfig, benchmark, fitting, llama_cpp, result
from engine.export.turns import Contender, Lengths, measure
from engine.inference.speed import Turn, best
from engine.inference.speed_table import BASE, cells, heads, notes
from engine.model.published import config_from
from engine.progress import Stopped

MACHINE = {"processor": "a processor", "cores": 2, "memory_bandwidth": 30e9}
LENGTHS = Lengths(8, 6, toy_bundle.VOCABULARY)


@pytest.fixture(scope="module", autouse=True)
def one_core():
    """Several threads of one tiny product wait for one another where a machine is busy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return toy_bundle.bundle(tmp_path_factory.mktemp("timed"))


@pytest.fixture(scope="module")
def found(bundle):
    return benchmark(bundle, BenchmarkConfig(prompt_tokens=8, new_tokens=6, rounds=1), MACHINE)


def test_onnxruntime_pytorch_and_transformers_write_the_same_text(found):
    rows = {row["name"]: row for row in found["rows"]}
    assert {"this bundle, float32", BASE, "transformers"} <= set(rows)
    assert [row["failed"] for row in rows.values()] == [""] * len(rows)
    assert {row["greedy_tokens_equal"] for row in rows.values()} == {6}
    for row in rows.values():
        assert row["prefill_tokens_per_second"] == pytest.approx(8 / row["first_token_seconds"])
        assert row["tokens_per_second"] > 0
        assert row["load_seconds"] > 0
        assert row["peak_bytes"] > row["size_bytes"] + (10 << 20)       # an interpreter at least
    assert rows[BASE]["peak_bytes"] > rows["this bundle, float32"]["peak_bytes"]    # which needs no torch


def test_the_limit_is_the_reading_of_all_weights_and_of_one_row_of_an_embedding_apart(found, bundle, tmp_path):
    size = (bundle / "onnx" / "model.onnx").stat().st_size
    shape = config_from(bundle)
    apart = 0 if shape.tied_embeddings else 4 * shape.vocab_size * shape.hidden_size
    assert found["rows"][0]["limit_tokens_per_second"] == pytest.approx(30e9 / (size - apart))


def test_the_result_stays_with_the_bundle_until_it_is_another(found, bundle):
    assert result(bundle)["rows"] == found["rows"]
    manifest = bundle / files.MANIFEST
    before = manifest.read_bytes()
    manifest.write_bytes(before + b"\n")
    assert result(bundle) is None
    manifest.write_bytes(before)
    (bundle / RESULT).write_text("[]")
    with pytest.raises(UserError, match="measure the speed again"):
        result(bundle)
    files.write_json(bundle / RESULT, found)


def test_a_bundle_that_is_exported_anew_meanwhile_gets_no_result(bundle, tmp_path, monkeypatch):
    manifest, kept = bundle / files.MANIFEST, (bundle / files.MANIFEST).read_bytes()
    monkeypatch.setattr("engine.export.benchmark.measure", lambda *_: manifest.write_bytes(kept + b" ") and [])
    monkeypatch.setattr("engine.export.benchmark.RESULT", "other.json")
    with pytest.raises(UserError, match="exported anew"):
        benchmark(bundle, BenchmarkConfig(), MACHINE)
    manifest.write_bytes(kept)
    assert not (bundle / "other.json").exists()


def test_long_texts_are_cut_to_the_context(bundle):
    shape = config_from(bundle)
    lengths = fitting(BenchmarkConfig(), shape)
    assert (lengths.prompt_tokens, lengths.new_tokens) == (48, 48)
    asked = read(BenchmarkConfig, {"prompt_tokens": 90, "new_tokens": 4})
    lengths = fitting(asked, shape)
    assert (lengths.prompt_tokens, lengths.new_tokens) == (90, 4)


def test_one_that_fails_says_why_and_the_others_are_measured(bundle, tmp_path):
    rows = measure([Contender("ours", "ours", bundle, "float32"), Contender("gone", "ours", tmp_path / "no", "float32"),
                    Contender("without", "ours", bundle, refused="it is not here.")], LENGTHS, rounds=1)
    assert rows[0]["tokens_per_second"] > 0
    assert rows[1]["failed"] == f"{tmp_path / 'no'} is not a folder; choose the folder of a bundle."
    assert rows[2]["failed"] == "it is not here."


def test_models_that_do_not_fit_together_are_opened_one_at_a_time(bundle, monkeypatch):
    alive = []

    def progress(done, of, message=""):
        alive.append(len(psutil.Process().children()))

    pair = [Contender(name, "ours", bundle, "float32") for name in "ab"]
    before = len(psutil.Process().children())
    monkeypatch.setattr("engine.export.turns.LIBRARIES_BYTES", 1 << 60)
    rows = measure(pair, LENGTHS, rounds=2, progress=progress)
    assert max(alive) <= before + 1
    assert all(row["tokens_per_second"] > 0 for row in rows)


def test_a_stop_leaves_no_process(bundle):
    before = set(psutil.Process().children())

    def progress(done, of, message=""):
        if done == 1:
            raise Stopped

    with pytest.raises(Stopped):
        measure([Contender(name, "ours", bundle, "float32") for name in "ab"], LENGTHS, rounds=2, progress=progress)
    assert set(psutil.Process().children()) <= before


def test_the_best_turn_counts():
    turns = [Turn(0.5, 2.0, []), Turn(0.25, 4.0, [])]
    assert best(turns, prompt_tokens=10, new_tokens=5) == {
        "prefill_tokens_per_second": 40, "tokens_per_second": 2, "first_token_seconds": 0.25}


def test_llama_cpp_reads_the_bundles_own_files_or_new_ones_of_each_kind(bundle, tmp_path):
    pytest.importorskip("gguf")
    shape = config_from(bundle)
    made = list(llama_cpp(bundle, shape, tmp_path))
    assert [way.name for way in made] == ["llama.cpp, F32", "llama.cpp, Q8_0", "llama.cpp, Q4_0"]
    assert all(way.path.is_file() and way.path.is_relative_to(tmp_path) for way in made)
    assert made[0].size_bytes > 2 * made[1].size_bytes


def test_the_table_says_what_is_not_so():
    row = {"name": BASE, "precision": "float32", "failed": "", "size_bytes": 4 << 20, "tokens_per_second": 100.0,
           "prefill_tokens_per_second": 900.0, "first_token_seconds": 0.0123, "limit_tokens_per_second": 200.0,
           "load_seconds": 1.5, "peak_bytes": 99 << 20, "greedy_tokens_equal": 8}
    fast = {**row, "name": "fast", "tokens_per_second": 250.0, "greedy_tokens_equal": 3}
    broken = {"name": "broken", "precision": "float32", "failed": "it broke.", "size_bytes": 0}
    silent = {**row, "name": "silent", "greedy_tokens_equal": None}
    rows = [row, fast, broken, silent]
    assert len({len(heads(BASE)), *(len(cells(each, rows, BASE)) for each in rows)}) == 1
    assert cells(fast, rows, BASE)[:7] == ["fast", "4 MiB", "900/s", "12.3 ms", "250/s", "125%", "2.50"]
    told = " ".join(notes({"rows": rows, "prompt_tokens": 8, "new_tokens": 8, "rounds": 1, "machine": MACHINE,
                           "load": 1.9}))
    assert "in float32, fast wrote another text" in told
    assert "other work (load 1.9" in told
    assert "broken: it broke." in told
    assert "30 GB/s" in told
