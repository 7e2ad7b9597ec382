"""Servers of their own: begun from a workspace, found again by whoever looks, answering a real client, and stopped."""

from __future__ import annotations

import os
import signal
import socket
import time

import openai
import pytest
import toy_chat

from engine import files
from engine.config import UserError
from engine.inference import load
from engine.runs import serving
from engine.runs.sources import Source, find
from engine.workspace import Workspace
from studio.serve_card import curl, python


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return toy_chat.bundle(tmp_path_factory.mktemp("served"))


def until(workspace, state, seconds=90):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = serving.listing(workspace)
        if found and found[0].state == state:
            return found[0]
        time.sleep(0.1)
    raise AssertionError(serving.listing(workspace))


def test_it_answers_in_a_process_of_its_own_is_found_again_and_stops(workspace, toy):
    source = find(str(toy), workspace)
    begun = time.monotonic()
    serving.start(source, workspace, key="a-secret")
    assert time.monotonic() - begun < 2, "starting waits for nothing"
    with pytest.raises(UserError, match="is served already"):
        serving.start(source, workspace)
    until(workspace, "running")
    served = serving.listing(Workspace(workspace.path))[0]      # as another browser, or the studio after its death
    assert served.pid != os.getpid()
    assert served.address.startswith("http://127.0.0.1:")
    client = openai.OpenAI(base_url=served.address, api_key="a-secret", timeout=60, max_retries=0)
    said = client.chat.completions.create(model=served.model, max_tokens=6, temperature=0,
                                          messages=[{"role": "user", "content": "kalo"}]).choices[0].message.content
    model = load(toy)
    prompt = model.chat([{"role": "user", "content": "kalo"}])
    assert said == "".join(token.text for token in model.tokens(prompt, 6, 0.0, ends=model.turn_ends))
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=served.address, api_key="none", max_retries=0).models.list()
    everything = b"".join(path.read_bytes() for path in serving.place(workspace).rglob("*") if path.is_file())
    assert b"a-secret" not in everything, "a key is kept nowhere"

    # The page's snippets are what they say.
    scope: dict = {}
    os.environ["STUDIO_API_KEY"] = "a-secret"
    try:
        exec(python(served).replace("print(", "said = ("), scope)
    finally:
        del os.environ["STUDIO_API_KEY"]
    assert isinstance(scope["said"], str)
    assert "chat/completions" in curl(served)
    assert "$STUDIO_API_KEY" in curl(served)

    serving.stop(served, workspace)
    ended = until(workspace, "ended")
    assert (ended.address, ended.problem) == ("", "")
    serving.clear(ended, workspace)
    assert serving.listing(workspace) == []


def test_one_that_is_killed_is_known_to_be_gone(workspace, toy):
    serving.start(find(str(toy), workspace), workspace)
    served = until(workspace, "running")
    os.kill(served.pid, signal.SIGKILL)
    assert until(workspace, "ended").address == ""
    serving.start(find(str(toy), workspace), workspace)         # and its place is free
    serving.stop(until(workspace, "running"), workspace)
    until(workspace, "ended")


def test_what_hinders_it_is_told(workspace, toy):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        serving.start(find(str(toy), workspace), workspace, port=taken.getsockname()[1])
        assert "cannot be used" in until(workspace, "ended").problem
    for wrong, sentence in ((lambda: serving.start(find(str(toy), workspace), workspace, port=80), "port 80 is not"),
                            (lambda: serving.start(Source("judge", toy, scores=True), workspace), "scores texts"),
                            (lambda: serving.start(find(str(toy), workspace), workspace, key="schlüssel"), "the key")):
        with pytest.raises(UserError, match=sentence):
            wrong()
    folder = serving.place(workspace) / "broken"
    folder.mkdir()
    (folder / "state.json").write_text("[1")
    assert [served.name for served in serving.listing(workspace)] != ["broken"]
    files.write_json(folder / "state.json", {"name": "broken", "unknown": 1})
    assert serving.look(folder).state == "ended"


def test_a_record_is_not_believed(workspace):
    folder, beside = serving.place(workspace) / "mine", workspace.path / "kept"
    folder.mkdir(parents=True)
    beside.mkdir()
    files.write_json(folder / "state.json", {"name": "../../kept", "started": 3})
    files.write_json(beside / "state.json", {"name": "kept"})
    found = serving.listing(workspace)
    assert [served.name for served in found] == ["mine"]
    serving.clear(found[0], workspace)
    assert beside.is_dir()
    assert not folder.exists()
    folder.mkdir()
    for wrong in ({"started": "x"}, {"started": None}, {"started": float("nan")}, {"started": 10**400}, {"pid": "1"},
                  {"label": 1}, {"address": ["x"]}, {"key": "yes"}):
        files.write_json(folder / "state.json", wrong)
        assert serving.listing(workspace) == [], wrong


def test_of_a_long_log_its_end_is_read(workspace):
    folder = serving.place(workspace) / "mine"
    folder.mkdir(parents=True)
    files.write_json(folder / "state.json", {"started": 3.5})
    with open(folder / "log.txt", "wb") as log:
        log.truncate(1 << 40)       # a hole: reading it whole is more than the memory holds
        log.seek(0, os.SEEK_END)
        log.write("\nstudio: port 80 cannot be used (é).\n".encode())
    assert serving.look(folder).problem == "port 80 cannot be used (é)."


def test_a_source_is_found_from_wherever_its_server_runs(workspace, toy, monkeypatch):
    monkeypatch.chdir(toy.parent)
    serving.start(find(toy.name, workspace), workspace)
    serving.stop(until(workspace, "running"), workspace)
    until(workspace, "ended")
