"""The example notebook runs from top to bottom, in a real kernel, in few lines."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parent.parent / "examples" / "studio.ipynb"


def test_the_notebook_makes_a_model_in_twelve_lines(workspace, toy_recipe):
    recipe = workspace.path / "toy.yaml"
    recipe.write_text(toy_recipe.to_yaml())
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    lines = [line for cell in code for line in cell.source.splitlines() if line.strip()]
    assert len(lines) <= 12

    code[0].source = code[0].source.replace('"demo"', repr(str(recipe))).replace("train.max_steps=300",
                                                                                 "train.max_steps=20")
    NotebookClient(notebook, timeout=150, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()

    shown = [output.get("data", {}).get("text/html", "") for cell in code for output in cell.outputs]
    frames = [html for html in shown if "<iframe" in html]
    assert len(frames) == 2
    assert all("127.0.0.1" in html or "localhost" in html for html in frames)
    spoken = "".join(output.get("text", "") for output in code[2].outputs)
    assert len(spoken.strip()) > 0
