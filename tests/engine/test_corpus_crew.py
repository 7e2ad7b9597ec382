"""Who does the steps makes no difference: processes, a Ray on this machine or elsewhere, and if one is killed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import threading
import time

import psutil
import pytest
from toy_prose import prose

from engine.config import UserError, read
from engine.corpus import CorpusConfig, crew, intake
from engine.corpus.pipeline import curate
from engine.progress import silent

STEPS = ["clean", {"kind": "passages", "characters": 400}, "exact_duplicates", {"kind": "quality", "min_words": 12},
         "near_duplicates", {"kind": "decontaminate", "sets": [{"path": "corpora/eval.jsonl"}]}]


@pytest.fixture
def mine(workspace, monkeypatch):
    """Texts in some thirty shards; some stand twice, one is broken, one is an evaluation set's."""
    monkeypatch.setattr(intake, "SHARD", 4_000)
    folder = workspace.place("corpora") / "mine"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number:02d}.txt").write_text(f"cafÃ© {number % 33}  " + prose(30, seed=number % 33))
    (folder / "broken.txt").write_bytes(bytes(range(256)))
    (workspace.place("corpora") / "eval.jsonl").write_text(json.dumps({"text": prose(4, seed=7)}))
    return folder


def made(workspace, workers: str) -> dict[str, str]:
    """What every file of the dataset holds, as a digest. Nothing is left for the next time."""
    config = read(CorpusConfig, {"sources": [{"path": "corpora/mine"}], "steps": STEPS, "workers": workers})
    folder = curate(config, workspace, "mine", silent)
    contents = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}
    shutil.rmtree(folder)
    shutil.rmtree(workspace.path / "stages", ignore_errors=True)
    return contents


class Killer(threading.Thread):
    """Kills the first process among the descendants of this one that `chosen` picks; tells which."""

    def __init__(self, chosen) -> None:
        super().__init__(daemon=True)
        self.chosen, self.killed = chosen, None
        self.over = threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()

    def run(self) -> None:
        while not self.over.is_set() and self.killed is None:
            for process in psutil.Process().children(recursive=True):
                try:
                    if self.chosen(process):
                        os.kill(process.pid, signal.SIGKILL)
                        self.killed = process.pid
                        return
                except (psutil.Error, OSError):
                    continue
            time.sleep(0.005)


@pytest.mark.parametrize("workers", ["0", "many", "local:0", "http://head", "ray://"])
def test_workers_that_are_none_are_refused(workers):
    with pytest.raises(UserError) as refused:
        read(CorpusConfig, {"workers": workers})
    assert refused.value.where == "workers"


@pytest.fixture
def did(monkeypatch) -> list[int | None]:
    """What workers told of each shard that they were given; None if it was left to the accountant."""
    told: list[int | None] = []
    for kind in (crew.Processes, crew.OnRay):
        def noting(self, work, end=kind.end):
            told.append(end(self, work))
            return told[-1]

        monkeypatch.setattr(kind, "end", noting)
    return told


def test_processes_give_the_same_bytes_and_one_may_be_killed(workspace, mine, did):
    alone = made(workspace, "")
    stages = workspace.path / "stages"

    def worker(process: psutil.Process) -> bool:
        return "spawn_main" in " ".join(process.cmdline()) and len(list(stages.glob("*/0*"))) > 40

    with Killer(worker) as it:
        assert made(workspace, "2") == alone
    assert it.killed
    assert did.count(None) < len(did), "the workers did nothing"


# Ray -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def ray(monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed; install it with: pip install -e '.[cluster]'")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    yield ray
    ray.shutdown()


@pytest.mark.slow
def test_a_ray_of_two_workers_gives_the_same_bytes_though_one_is_killed(workspace, mine, ray, did):
    alone = made(workspace, "")
    with Killer(lambda process: process.cmdline()[:1] == ["ray::part"]) as it:
        assert made(workspace, "local:2") == alone
    assert it.killed
    assert len(did) > 30
    assert None not in did, "what the killed worker had in hand was not done by the other"
    assert not ray.is_initialized()


@pytest.mark.slow
def test_a_ray_cluster_gives_the_same_bytes_though_a_machine_of_it_goes_away(workspace, mine, ray, did):
    from ray.cluster_utils import Cluster

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alone = made(workspace, "")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "ray_client_server_port": port})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        cluster.wait_for_nodes()
        stages = workspace.path / "stages"

        def leave() -> None:
            while len(list(stages.glob("*/0*"))) < 6:
                time.sleep(0.01)
            cluster.remove_node(nodes[0], allow_graceful=False)

        leaving = threading.Thread(target=leave, daemon=True)
        leaving.start()
        assert made(workspace, f"ray://127.0.0.1:{port}") == alone
        assert not leaving.is_alive(), "the machine went away too late"
        assert len(did) > 30
        assert None not in did, "what the lost machine had in hand was not done by the other"
    finally:
        cluster.shutdown()


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_refused(workspace, mine, ray):
    with pytest.raises(UserError) as refused:
        made(workspace, "ray://127.0.0.1:1")
    assert refused.value.where == "corpus.workers"
