"""The line for the terminal asks for what the page does, whatever the texts begin with."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

import pytest

from engine.inference.commands import takes_scored
from engine.runs.sources import Source
from engine.runs.talking import takes_chat, takes_writing
from studio import same_command

SOURCE, SAMPLING = Source("toy", Path("bundles/toy")), {
    "temperature": 0.8, "top_p": 1.0, "top_k": 0, "max_new_tokens": 9, "stop": ["--x", "-x"]}


def parsed(takes, line):
    command = argparse.ArgumentParser()
    takes(command.add_subparsers().add_parser(line.split()[1]))
    return command.parse_args(shlex.split(line)[1:])


@pytest.mark.parametrize("text", ["kalo mi", "-kalo", "--seed", "--9 -", "it's"])
def test_a_text_is_never_taken_as_an_option(text):
    asked = parsed(takes_writing, same_command.continuing(SOURCE, text, "", SAMPLING, "3"))
    assert (asked.name, asked.prompt, asked.seed, asked.stop) == ("toy", text, 3, ["--x", "-x"])
    asked = parsed(takes_chat, same_command.conversing(SOURCE, text, SAMPLING, "3"))
    assert (asked.name, asked.system, asked.stop) == ("toy", text, ["--x", "-x"])
    asked = parsed(takes_scored, same_command.scoring(SOURCE, ["kalo", text]))
    assert (asked.bundle, asked.texts) == ("toy", ["kalo", text])
