"""Real clients open our bundles unchanged and write the same greedy text: one folder for all of them, every family.

A client runs in an environment of its own, which a variable names; `benchmarks/clients` says how to make each.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "benchmarks" / "clients"
CHROMIUM = os.environ.get("STUDIO_CHROMIUM", "/usr/bin/chromium")
FAMILIES = ("llama", "qwen3", "gpt2")
PUBLISHED = "published"     # a chat model of others: what begins and ends its texts and turns is its own
CLIENTS = {     # name: (the variable that says where it is installed, the script that runs it)
    "transformers": ("", "transformers_client.py"),
    "optimum": ("OPTIMUM_PYTHON", "optimum_client.py"),
    "genai": ("GENAI_PYTHON", "genai_client.py"),
    "transformers.js-node": ("TRANSFORMERS_JS", "transformers_js.mjs"),
    "transformers.js-chromium": ("TRANSFORMERS_JS", "browser_client.py"),
}
WHAT = {"OPTIMUM_PYTHON": "a Python that has optimum-onnx", "GENAI_PYTHON": "a Python that has onnxruntime-genai",
        "LLAMA_CPP_PYTHON": "a Python that has llama-cpp-python",
        "XLLAMACPP_PYTHON": "a Python that has xllamacpp, llama.cpp without the need to build it",
        "TRANSFORMERS_JS": "a folder in which npm installed @huggingface/transformers"}


def named(variable: str) -> str:
    """What the variable names; the test is skipped, and says why, where it names nothing."""
    found = os.environ.get(variable, "")
    if not found:
        pytest.skip(f"${variable} names no environment: it should be {WHAT[variable]}")
    return found


def said(*command: object, cwd: Path = ROOT, own: bool = False) -> str:
    """What a script prints; `own` is a script that imports the studio. It fails by its exit code."""
    # Toys gain nothing by threads, and threads that spin while they wait lose minutes on a busy machine.
    environment = {**{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
                   "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True,
                          env={**environment, "PYTHONPATH": str(ROOT)} if own else environment)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def bundles(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    said(sys.executable, SCRIPTS / "make.py", folder, own=True)
    return folder


@pytest.fixture(scope="module")
def scorers(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scorers")
    said(sys.executable, SCRIPTS / "make_scorers.py", folder, own=True)
    return folder


@pytest.fixture(scope="module")
def gguf_bundles(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("gguf")
    said(sys.executable, SCRIPTS / "make_gguf.py", folder, own=True)
    return folder


@pytest.mark.parametrize("family", [*FAMILIES, PUBLISHED])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_writes_the_same_greedy_text(client, family, request):
    variable, script = CLIENTS[client]
    place = named(variable) if variable else sys.executable
    made = request.getfixturevalue("bundles")
    if script.endswith(".mjs"):
        lines = said("node", SCRIPTS / script, made, family, cwd=Path(place))
    elif client == "transformers.js-chromium":
        lines = said(sys.executable, SCRIPTS / script, made, Path(place) / "node_modules", family)
    else:
        lines = said(place, SCRIPTS / script, made, family)
    for target in ("native", "portable"):
        assert f"{family}-{target}" in lines, "the client read none of its files"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("client", ["transformers", "optimum"])
def test_a_client_gives_the_same_scores(client, family, request):
    python = named("OPTIMUM_PYTHON") if client == "optimum" else sys.executable
    lines = said(python, SCRIPTS / "scoring_client.py", client, request.getfixturevalue("scorers"), family)
    for kind in ("reward", "classifier"):
        assert f"{family}-{kind}" in lines, "the client read none of its files"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("variable", "script"), [("LLAMA_CPP_PYTHON", "llama_cpp_client.py"),
                                                  ("XLLAMACPP_PYTHON", "xllamacpp_client.py")])
def test_llama_cpp_writes_the_same_greedy_tokens(variable, script, family, request):
    python = named(variable)
    assert family in said(python, SCRIPTS / script, request.getfixturevalue("gguf_bundles"), family)


@pytest.mark.browser
@pytest.mark.parametrize("family", FAMILIES)
def test_netron_shows_the_graph(family, bundles):
    """On this machine alone: what its page asks of others (where one is, and a counter of visitors) is refused."""
    netron = pytest.importorskip("netron")
    sync_api = pytest.importorskip("playwright.sync_api")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"there is no {CHROMIUM}; $STUDIO_CHROMIUM may name another browser")
    address = netron.start(str(bundles / f"{family}-native" / "onnx" / "model.onnx"), ("127.0.0.1", 0), browse=False)
    try:
        with sync_api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--headless=new", "--no-sandbox"])
            page = browser.new_page()
            page.set_default_timeout(120_000)
            page.route(lambda url: not url.startswith("http://127.0.0.1:"), lambda route: route.abort())
            page.goto(f"http://{address[0]}:{address[1]}")
            page.get_by_role("button", name="Accept").click()
            page.locator("#target .node").first.wait_for()
            # Its page forbids eval, by which a locator would read texts.
            told = page.context.new_cdp_session(page).send("Runtime.evaluate", {
                "expression": "[...document.querySelectorAll('#target .node')].map(node => node.textContent)",
                "returnByValue": True})
            shown = told["result"]["value"]
            browser.close()
    finally:
        netron.stop(address)
    kinds = [text for text in shown if "GroupQueryAttention" in text]
    assert len(kinds) == 2, f"one for each of the two layers: {kinds}"
    assert not any("RotaryEmbedding" in text for text in shown), "the attention rotates by itself"
    assert any(("LayerNormalization" if family == "gpt2" else "RMSNormalization") in text for text in shown)
    assert len(shown) > 30
