"""Kill this process at a chosen point of a training, for `faults.py`, whose workers import this at start-up.

FAULT="validation 3" ends the process with SIGKILL in its third look, FAULT="checkpoint 40" at the fortieth thing that
is done to a file of a checkpoint. Nothing of it is in the product: the modules are wrapped as they are imported.
"""

from __future__ import annotations

import importlib.machinery
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

PLACE, _, _NUMBER = os.environ.get("FAULT", "").rpartition(" ")
left = int(_NUMBER or 0)


def here(place: str) -> bool:
    """Whether the process is to end at this point; each is passed that often before."""
    global left
    if place == PLACE:
        left -= 1
    return place == PLACE and left == 0


def end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wrap(holder: Any, name: str, before: Callable[..., Any]) -> None:
    """Call `before` with the arguments ahead of every call."""
    wrapped = getattr(holder, name)

    def call(*given: Any, **named: Any) -> Any:
        before(*given, **named)
        return wrapped(*given, **named)

    setattr(holder, name, call)


def audit(event: str, arguments: tuple[Any, ...]) -> None:
    """What is opened, made, renamed or removed of a checkpoint that is not there yet, or no longer."""
    if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree") and any(
            "/checkpoints/.step-" in os.fsdecode(each) for each in arguments
            if isinstance(each, str | bytes | os.PathLike)):
        deleted = event in ("os.remove", "os.rmdir", "shutil.rmtree")
        if here("deletion" if deleted else "checkpoint"):
            end()


def half_a_file(tensors: Any, path: Any, *_: Any, **__: Any) -> None:
    """A file of weights that is cut in the middle."""
    if here("weights file"):
        Path(path).write_bytes(b"".join(tensor.numpy().tobytes() for tensor in tensors.values())[:-4096])
        end()


def saving(module: ModuleType) -> None:
    wrap(module, "save_file", half_a_file)


def base(module: ModuleType) -> None:
    def step(stage: Any, batch: Any, number: int) -> None:
        if number % stage.train_config.accumulation and here("accumulation"):
            end()

    looks = module.Stage.validate

    def validate(stage: Any, batches: Any) -> float:
        def until() -> Any:
            for number, batch in enumerate(batches):
                if number == 1 and here("validation"):
                    end()
                yield batch

        return float(looks(stage, until()))

    update = module.Stage.optimizer_step

    def optimizer_step(*given: Any, **named: Any) -> None:
        update(*given, **named)
        if here("update"):
            end()

    wrap(module.Stage, "training_step", step)
    module.Stage.validate, module.Stage.optimizer_step = validate, optimizer_step


def callbacks(module: ModuleType) -> None:
    make = module.generate

    def generate(*given: Any, **named: Any) -> Any:
        made = make(*given, **named)
        if here("sample"):
            end()
        return made

    module.generate = generate


def folder(module: ModuleType) -> None:
    def append(run: Any, name: str, *_: Any) -> None:
        if name == "metrics" and here("row"):
            with open(run.path / "metrics.jsonl", "a") as file:
                file.write('{"step": 99, "time": 17')
            end()

    wrap(module.Run, "append", append)


def trainer(module: ModuleType) -> None:
    cut = module.cut

    def cutting(run: Any, step: int) -> None:
        import engine.files

        if here("resume"):
            wrap(engine.files, "sync", lambda path: end())  # after the rename of the first file
        cut(run, step)

    module.cut = cutting


PATCHES = {"engine.runs.saving": saving, "engine.model.pretrained": saving, "engine.stages.base": base,
           "engine.runs.callbacks": callbacks, "engine.runs.folder": folder, "engine.runs.trainer": trainer}


def install() -> None:
    """Wrap what belongs to the place when it is imported; in workers alone."""
    if not PLACE or "work" not in sys.orig_argv:
        return
    load = importlib.machinery.SourceFileLoader.exec_module

    def exec_module(loader: Any, module: ModuleType) -> None:
        load(loader, module)
        if module.__name__ in PATCHES:
            PATCHES[module.__name__](module)

    importlib.machinery.SourceFileLoader.exec_module = exec_module  # type: ignore[method-assign]
    sys.addaudithook(audit)
