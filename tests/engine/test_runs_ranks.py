"""Ranks that are killed, cut, counted anew and started by others: minutes, since each is a process with torch in it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from test_runs_resume import launched  # noqa: F401
from test_runs_resume import until as wait_until
from test_runs_spread import BATCH, STEPS, alone, same_path, trained  # noqa: F401
from test_runs_training import events, rows

from engine import runs
from engine.runs import checkpoint, outside
from engine.runs.launch import PROJECT
from engine.runs.worker import Worker

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread"), pytest.mark.timeout(900)]

OFTEN = ("train.checkpoint_every=10", "train.keep_last=9", "train.sample_every=1", "train.sample_tokens=24")


def until(true, what, seconds=300.0):
    wait_until(true, what, seconds)


def reaches(run, step, seconds=300.0):
    def reached():
        assert run.status().state != "failed", run.status().error or run.log()
        told = rows(run)
        return bool(told) and told[-1]["step"] >= step

    until(reached, f"step {step}", seconds)


def now_with(run, **changes):
    """The run's recipe is never rewritten by the engine; here a person does."""
    recipe = runs.recipe_of(run).override(*(f"train.{name}={value}" for name, value in changes.items()))
    run.recipe_path.write_text(recipe.to_yaml())


def same_bits(run, reference):
    for name in ("model.safetensors", "state/optimizer.safetensors"):
        assert (checkpoint.last(run) / name).read_bytes() == (checkpoint.last(reference) / name).read_bytes(), name


def ranks_of(run):
    """The processes that train, in the order of their ranks."""
    found = psutil.Process(run.status().pid).children(recursive=True)
    numbered = {int(each.environ()["RANK"]): each for each in found if "RANK" in each.environ()}
    return [numbered[rank] for rank in sorted(numbered)]


@pytest.fixture(scope="module")
def pair(world):
    """Two processes that nobody disturbs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield trained(world, "train.devices=2", *OFTEN, "model.dropout=0.1")
    torch.set_num_threads(before)


@pytest.mark.parametrize("changes", [(), ("train.ema_decay=0.9",), ("optim.kind=schedule_free",), ("optim.kind=lion",),
                                     ("optim.kind=sgd",), ("optim.kind=muon",)], ids=str)
def test_fsdp_trains_what_one_process_trains_and_one_goes_on_from_it(world, changes):
    near = 1e-3 if "optim.kind=muon" in changes else 1e-5  # it rounds to bf16 within its updates
    reference = trained(world, *changes)
    run = trained(world, "train.devices=2", "train.strategy=fsdp", "train.sample_every=25", *changes)
    same_path(run, reference, near)
    assert len(events(run, "sample")) == 2

    shutil.rmtree(run.checkpoints[-1])
    now_with(run, devices=1, strategy="auto")
    assert Worker(run).work() == "finished", run.status().error
    same_path(run, reference, near)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices")
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_gpus_train_what_one_trains(world, strategy, precision):
    near = 1e-3 if precision == "float32" else 2e-2  # TF32 and bf16 round by what they multiply together
    reference = trained(world, "train.device=cuda", "train.devices=1", f"train.precision={precision}")
    run = trained(world, "train.device=cuda", "train.devices=2", f"train.strategy={strategy}",
                  f"train.precision={precision}")
    assert [row["train/loss"] for row in rows(run)] == pytest.approx(
        [row["train/loss"] for row in rows(reference)], abs=near)


def test_fsdp_goes_on_from_one_process_and_writes_the_same_folder(world, alone):  # noqa: F811
    transformers = pytest.importorskip("transformers")
    run = trained(world)
    shutil.rmtree(run.checkpoints[-1])
    now_with(run, devices=2, strategy="fsdp")
    assert Worker(run).work() == "finished", run.status().error
    same_path(run, alone)
    last, its = checkpoint.last(run), checkpoint.last(alone)
    assert {p.relative_to(last) for p in last.rglob("*")} == {p.relative_to(its) for p in its.rglob("*")}
    ids = torch.arange(12)[None]
    mine, other = (transformers.AutoModelForCausalLM.from_pretrained(path)(ids).logits for path in (last, its))
    torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)


def test_a_killed_rank_is_told_of_and_the_run_resumes_bit_for_bit(launched, pair):  # noqa: F811
    run = launched(*BATCH, "train.devices=2", *OFTEN, "model.dropout=0.1")
    reaches(run, 12)
    ranks = ranks_of(run)
    ranks[1].kill()
    until(lambda: not run.status().active, "the run has failed")
    assert run.status().state == "failed"
    assert run.status().error == (
        f"Process 1 of 2 (counted from 0) was killed, as the system does when memory runs out. The others were ended. "
        f"Resume the run: it goes on from {run.checkpoints[-1].name}.")
    assert not any(rank.is_running() for rank in ranks)
    runs.resume(run)
    assert run.wait(600).state == "finished"
    same_bits(run, pair)


def test_training_goes_on_by_itself_after_a_killed_rank(launched, pair):  # noqa: F811
    run = launched(*BATCH, "train.devices=2", "train.restarts=1", *OFTEN, "model.dropout=0.1")
    reaches(run, 12)
    ranks_of(run)[0].kill()
    assert run.wait(600).state == "finished"
    [warning] = events(run, "warning")
    assert warning["sentence"].startswith("Process 0 of 2 (counted from 0) was killed")
    assert warning["sentence"].endswith("Training goes on from the last checkpoint, once more.")
    same_bits(run, pair)


def test_ranks_die_with_a_killed_worker(launched):  # noqa: F811
    run = launched(*BATCH, "train.devices=2", *OFTEN)
    reaches(run, 5)
    ranks = ranks_of(run)
    os.kill(run.status().pid, signal.SIGKILL)
    assert psutil.wait_procs(ranks, timeout=30)[1] == [], "they are gone"
    assert run.status().state == "lost"


def test_nan_on_one_rank_ends_all(world):
    run = world.run(*BATCH, "train.devices=2", "optim.kind=sgd", "optim.lr=10", "train.max_grad_norm=0",
                    "schedule.warmup_steps=0", "optim.momentum=0.99")
    assert Worker(run).work() == "failed"
    assert run.status().error.startswith("The loss or its gradient became NaN or infinite at step")


def test_a_paused_pair_wakes_and_goes_on(launched, pair):  # noqa: F811
    run = launched(*BATCH, "train.devices=2", *OFTEN, "model.dropout=0.1")
    reaches(run, 12)
    runs.pause(run)
    until(lambda: run.status().state == "paused", "it is paused")
    runs.resume(run)
    assert run.wait(600).state == "finished"
    same_bits(run, pair)


# Others start the processes ---------------------------------------------------------------------------


def under_torchrun(run, *more):
    command = [str(Path(sys.executable).with_name("torchrun")), *more, "-m", "engine", "work", str(run.path)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    return subprocess.Popen(command, env=environment, stdout=open(run.path / "log.txt", "ab"),
                            stderr=subprocess.STDOUT)


def test_torchrun_trains_the_same_bits_and_starts_again_after_a_kill(world, pair):
    run = world.run(*BATCH, *OFTEN, "model.dropout=0.1")
    with under_torchrun(run, "--standalone", "--nproc-per-node=2", "--max-restarts=2") as torchrun:
        reaches(run, 12)
        ranks = [each for each in psutil.Process(torchrun.pid).children() if "RANK" in each.environ()]
        next(each for each in ranks if each.environ()["RANK"] == "1").kill()
        until(lambda: run.status().awaits or run.status().step < 11, "its death is noticed")
        assert run.status().state in ("queued", "running"), "not failed: it goes on by itself"
        assert torchrun.wait(600) == 0, run.log()
    assert run.status().state == "finished"
    same_bits(run, pair)


@pytest.fixture
def srun(tmp_path, monkeypatch):
    """SLURM as far as a task of a job step sees it: its variables, and signals to every task."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").write_text(
        "#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\n"
        "export SLURM_STEP_NUM_TASKS=2 SLURM_STEP_TASKS_PER_NODE=2\n"
        'for task in 0 1; do SLURM_PROCID=$task SLURM_LOCALID=$task "$@" & tasks[$task]=$!; done\n'
        'trap \'kill -USR1 "${tasks[@]}"\' USR1\n'
        'for task in 0 1; do while kill -0 ${tasks[$task]} 2>/dev/null; do wait ${tasks[$task]}; done; done\n')
    (tmp_path / "bin" / "scontrol").write_text(
        f'#!/bin/bash\nif [ $1 = show ]; then echo 127.0.0.1; else echo "$@" >> {tmp_path}/requeued; fi\n')
    for command in (tmp_path / "bin").iterdir():
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    for name, value in {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "here", "SLURM_CPUS_PER_TASK": "1",
                        "PYTHONPATH": str(PROJECT)}.items():
        monkeypatch.setenv(name, value)
    return tmp_path / "requeued"


def test_the_batch_script_saves_before_the_time_limit_and_the_next_job_goes_on(world, pair, srun):
    run = world.run(*BATCH, *OFTEN, "train.devices=2", "model.dropout=0.1", "train.launcher=slurm")
    script = run.path / "slurm.sh"
    script.write_text(outside.sbatch(runs.recipe_of(run), run.path))
    with subprocess.Popen(["bash", str(script)], start_new_session=True) as job:
        reaches(run, 12)
        step = next(each for each in psutil.Process(job.pid).children() if "srun" in " ".join(each.cmdline()))
        step.send_signal(signal.SIGUSR1)
        assert job.wait(600) == 0
    assert run.status().state == "stopped"
    stopped = rows(run)[-1]["step"]
    assert 12 <= stopped < STEPS
    assert checkpoint.last(run).name == f"step-{stopped:06d}"
    assert srun.read_text() == f"requeue {os.getpid()}\n"
    with subprocess.Popen(["bash", str(script)], start_new_session=True) as job:
        assert job.wait(600) == 0
    assert run.status().state == "finished"
    assert srun.read_text() == f"requeue {os.getpid()}\n", "a finished run is not queued again"
    same_bits(run, pair)


@pytest.mark.timeout(2400)
def test_rays_workers_train_the_same_bits_and_a_killed_one_is_replaced(launched, pair):  # noqa: F811
    pytest.importorskip("ray")
    run = launched(*BATCH, *OFTEN, "train.devices=2", "train.launcher=ray", "train.restarts=1", "model.dropout=0.1")
    reaches(run, 12, seconds=900)  # Ray starts a dozen processes first: a minute alone, many on a busy machine
    workers = [each for each in psutil.Process(run.status().pid).children(recursive=True)
               if "RayTrainWorker" in " ".join(each.cmdline())]
    workers[-1].kill()
    assert run.wait(900).state == "finished", run.log()
    assert "A worker of Ray died" in events(run, "warning")[0]["sentence"]
    assert not (run.path / "ray").exists()
    same_bits(run, pair)


@pytest.fixture
def hosts():
    """Two machines, as far as the network can tell: a namespace each, joined by a cable."""
    names = [f"studio-{os.getpid()}-{number}" for number in (1, 2)]
    one, two = names
    commands = [f"netns add {one}", f"netns add {two}",
                f"link add eth0 netns {one} type veth peer name eth0 netns {two}"]
    for number, name in enumerate(names, 1):
        commands += [f"-n {name} addr add 10.77.0.{number}/24 dev eth0", f"-n {name} link set eth0 up",
                     f"-n {name} link set lo up"]
    try:
        for command in commands:
            made = subprocess.run(["ip", *command.split()], capture_output=True, text=True)
            if made.returncode:
                pytest.skip(f"ip {command}: {made.stderr.strip()}")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


@pytest.mark.skipif(not shutil.which("ip"), reason="needs iproute2, and the right to make network namespaces")
def test_two_machines_train_the_same_bits(world, pair, hosts):
    """By the line that the studio shows; both have this machine's name, so each is told whether it is the first."""
    run = runs.start(world.recipe.override(*BATCH, *OFTEN, "model.dropout=0.1", "name=two-machines", "train.nodes=2",
                                           "train.devices=1", "train.launcher=torchrun"), world.workspace)
    line = run.status().message.removeprefix("waits for: ").replace("FIRST_MACHINE", "10.77.0.1")
    before, engine = line.split(" -m engine ")
    started = [subprocess.Popen(
        ["ip", "netns", "exec", host, "bash", "-c", f"{before} --rdzv-conf=is_host={int(number == 1)} "
         f"--local-addr=10.77.0.{number} -m engine {engine}"],
        env={**os.environ, "PYTHONPATH": str(PROJECT), "GLOO_SOCKET_IFNAME": "eth0"},
        stdout=open(run.path / "log.txt", "ab"), stderr=subprocess.STDOUT)  # noqa: SIM115
        for number, host in enumerate(hosts, 1)]
    assert [process.wait(600) for process in started] == [0, 0], run.log()
    assert run.status().state == "finished", run.status().error
    assert "ddp, 1 process on each of 2 machines" in [event["value"] for event in events(run, "resolved")]
    same_bits(run, pair)
