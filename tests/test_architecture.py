"""The arrows of the design: who may import whom, what stays light, and how big a file may grow."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOOR = {"config", "table", "files", "progress", "workspace"}
PATH = ("corpus", "tokens", "model", "optim", "stages", "evaluate", "export")
HEAVY = {"torch", "lightning", "daft", "ray", "onnx", "onnxruntime", "pyarrow", "tokenizers", "transformers"}
GUI = {"panel", "param", "holoviews", "bokeh", "panel_material_ui", "studio"}
LIGHTNING = {"engine/stages/base.py", "engine/runs/trainer.py", "engine/runs/callbacks.py", "engine/runs/strategy.py",
             "engine/tokens/batches.py"}

MAY_IMPORT: dict[str, set[str]] = {
    **{noun: {noun, *PATH[:place]} for place, noun in enumerate(PATH)},
    "corpus": {"corpus"},
    "export": {*PATH, "inference"},  # a bundle is proven by the client that ships with it
    "model": {"model"},  # the model knows nothing of data
    "inference": {"inference", "tokens"},
    "recipe": set(PATH),
    # A plan is arithmetic on a recipe; runs keep it beside what happened, and reckon with its prices.
    "plan": {*PATH, "plan", "recipe", "hardware"},
    "runs": {*PATH, "runs", "recipe", "hardware", "inference", "plan"},
    "hardware": set(),
    "terminal": {"runs", "inference", "recipe", "plan"},
    "__main__": {"runs", "recipe", "terminal", "inference", "plan"},
    "__init__": set(),
    "config": set(), "table": set(), "files": set(), "progress": set(), "workspace": set(),
}


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path, *, top_only: bool = False) -> set[str]:
    """The dotted names that a file imports; with `top_only`, those it imports when it is imported itself."""
    found: set[str] = set()
    todo: list[ast.AST] = [ast.parse(path.read_text())]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        only_for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if only_for_types or (top_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            continue
        todo += ast.iter_child_nodes(node)
    return found


def noun_of(path: Path) -> str:
    inside = path.relative_to(ROOT / "engine")
    return inside.parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules("engine"), ids=lambda p: str(p.relative_to(ROOT)))
def test_engine_arrows(path):
    used = {name.split(".")[1] for name in imports(path) if name.startswith("engine.")}
    nouns = {name for name in used if (ROOT / "engine" / name).is_dir() or (ROOT / "engine" / f"{name}.py").exists()}
    assert nouns - FLOOR <= MAY_IMPORT[noun_of(path)]
    assert not {name.split(".")[0] for name in imports(path)} & GUI, "the engine knows no GUI"


@pytest.mark.parametrize("path", modules("engine"), ids=lambda p: str(p.relative_to(ROOT)))
def test_lightning_stays_in_five_files(path):
    uses = any(name.split(".")[0] in ("lightning", "pytorch_lightning") for name in imports(path))
    assert not uses or str(path.relative_to(ROOT)) in LIGHTNING


@pytest.mark.parametrize("path", [p for p in modules("engine") if p.name == "__init__.py"],
                         ids=lambda p: str(p.relative_to(ROOT)))
def test_menus_are_light(path):
    assert not {name.split(".")[0] for name in imports(path, top_only=True)} & HEAVY


def test_the_contract_stands_on_the_floor_alone():
    for name in ("folder", "launch"):
        used = {n for n in imports(ROOT / f"engine/runs/{name}.py") if n.startswith("engine")}
        assert all(n.startswith(("engine.config", "engine.files", "engine.runs.folder")) or n == "engine" for n in used)


def test_only_the_command_line_imports_the_worker():
    users = {str(p.relative_to(ROOT)) for folder in ("engine", "studio") for p in modules(folder)
             if "engine.runs.worker" in imports(p, top_only=False)
             and "TYPE_CHECKING" not in p.read_text()}
    assert users <= {"engine/__main__.py"}


@pytest.mark.parametrize("path", modules("engine/tokens"), ids=lambda p: p.name)
def test_tokens_use_torch_in_batches_alone(path):
    uses = any(name.split(".")[0] in ("torch", "lightning") for name in imports(path))
    assert not uses or path.name == "batches.py"


def test_corpus_and_inference_use_no_torch():
    for folder in ("engine/corpus", "engine/inference"):
        for path in modules(folder):
            assert not {n.split(".")[0] for n in imports(path)} & {"torch", "lightning"}, path


@pytest.mark.parametrize("path", modules("studio/pages"), ids=lambda p: p.name)
def test_pages_know_no_other_page(path):
    if path.name != "__init__.py":
        assert not any(name.startswith("studio.pages") for name in imports(path))


def test_light_imports_leave_heavy_libraries_out():
    heavy = sorted({"torch", "lightning", "daft", "onnx", "onnxruntime", "transformers"})
    light = ("import engine.runs, engine.recipe", "import engine.__main__", "import studio.shell, studio.pages")
    check = "import sys" + "".join(f"; {each}; print([m for m in {heavy!r} if m in sys.modules])" for each in light)
    result = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    assert dict(zip(light, result.stdout.splitlines(), strict=True)) == dict.fromkeys(light, "[]")


@pytest.mark.parametrize("path", modules("engine") + modules("studio"), ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_small(path):
    assert len(path.read_text().splitlines()) <= 300


def test_every_noun_has_its_four_places():
    from studio.pages import PAGES

    nouns = [page.noun for page in PAGES]
    for noun in nouns:
        assert (ROOT / "assets" / "help" / f"{noun}.md").exists(), noun
        assert (ROOT / "studio" / "pages" / f"{noun}.py").exists(), noun
        if noun != "home":
            assert (ROOT / "engine" / noun).is_dir(), noun
            assert list((ROOT / "tests" / "engine").glob(f"test_{noun}*.py")), noun
