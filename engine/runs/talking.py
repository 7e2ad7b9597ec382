"""Talking: the Test page's work on the command line: continue a text, a set of prompts, a conversation, two models."""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.config import UserError
from engine.inference.commands import takes_adapter
from engine.runs.sources import Source, find, open_writer
from engine.workspace import Workspace

ALTERNATIVES = 5
MOST_SEED = 1_000_000
HELP = "/again asks for another answer, /clear begins anew, /system TEXT sets the system message, /quit ends"


def takes_speaker(command: argparse.ArgumentParser) -> None:
    """What speaks, and which of its graphs."""
    command.add_argument("name", metavar="NAME", help="a bundle or its folder, RUN/step-000850 for a checkpoint, or a "
                                                      "run for its newest one")
    command.add_argument("--precision", default="float32", metavar="P",
                         help="which of the bundle's graphs: float32, float16, int8, int8_dynamic or int4 (float32)")
    takes_adapter(command)


def takes_sampling(command: argparse.ArgumentParser, most: int) -> None:
    command.add_argument("--max-new-tokens", type=int, default=most, metavar="N", help=f"most tokens to write ({most})")
    command.add_argument("--temperature", type=float, default=0.8, metavar="T", help="randomness; 0 is greedy (0.8)")
    command.add_argument("--top-k", type=int, default=0, metavar="K", help="choose among the K likeliest; 0 is all")
    command.add_argument("--top-p", type=float, default=1.0, metavar="P", help="choose among the likeliest up to P")
    command.add_argument("--seed", type=int, metavar="S", help="the same seed gives the same text")
    command.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end before this text; repeatable")


def takes_writing(command: argparse.ArgumentParser) -> None:
    takes_speaker(command)
    command.add_argument("prompt", metavar="PROMPT", nargs="?", help="the beginning that the model continues")
    takes_sampling(command, 128)
    command.add_argument("--beside", metavar="OTHER", help="let another bundle or checkpoint write the same")
    command.add_argument("--probabilities", action="store_true",
                         help="show how likely each token was, and what else it might have been")
    command.add_argument("--prompts", metavar="FILE", help="a set of prompts: lines of a .txt, or records of a .jsonl")
    command.add_argument("--report", metavar="FILE", help="where the report on the prompts goes: a .jsonl or a .md")


def generate(arguments: argparse.Namespace) -> int:
    workspace = Workspace(arguments.workspace)
    source = find(arguments.name, workspace, arguments.precision, arguments.adapter)
    if arguments.prompts:
        return _set(arguments, source)
    if arguments.report:
        raise UserError("a report is on a set of prompts; name their file with --prompts.", where="report")
    if arguments.prompt is None:
        raise UserError("there is nothing to continue; give a prompt, or a file of them with --prompts.",
                        where="prompt")
    pair = [source, *([find(arguments.beside, workspace)] if arguments.beside else [])]
    seed = arguments.seed
    if len(pair) > 1 and seed is None:
        seed = random.randrange(MOST_SEED)      # both throw the same dice
    for number, each in enumerate(pair):
        if len(pair) > 1:
            print(f"{chr(10) if number else ''}== {each.label}")
        tokens = open_writer(each).tokens(arguments.prompt, seed=seed, **_settings(arguments),
                                          alternatives=ALTERNATIVES if arguments.probabilities else 0)
        written = _printed(tokens, arguments.prompt)
        if arguments.probabilities:
            _print_probabilities(written)
    return 0


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"max_new_tokens": arguments.max_new_tokens, "temperature": arguments.temperature,
            "top_k": arguments.top_k, "top_p": arguments.top_p, "stop": arguments.stop}


def _printed(tokens: Iterator[Any], before: str = "") -> list[Any]:
    """Print a text as it comes; its tokens."""
    written: list[Any] = []
    for token in tokens:    # the first one is what a wrong setting refuses
        print(("" if written else before) + token.text, end="", flush=True)
        written.append(token)
    print()
    return written


def _print_probabilities(written: list[Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    grid = Table(box=None, pad_edge=False)
    for title in ("token", "probability", "surprise", "instead"):
        grid.add_column(title, justify="right" if title in ("probability", "surprise") else "left")
    for token in written:
        others = [f"{other!r} {share:.1%}" for number, other, share in token.alternatives if number != token.id]
        shown = next((text for number, text, _ in token.alternatives if number == token.id), token.text)
        grid.add_row(escape(repr(shown)), f"{token.probability:.1%}", f"{-math.log(max(1e-9, token.probability)):.2f}",
                     escape("  ".join(others)))
    console = Console(highlight=False)
    # In a pipe nobody's window cuts the lines.
    (console if console.is_terminal else Console(highlight=False, width=200)).print(grid)
    mean = sum(-math.log(max(1e-9, token.probability)) for token in written) / max(1, len(written))
    print(f"mean surprise {mean:.3f} nats over {len(written)} tokens")


# A set of prompts ---------------------------------------------------------------------------------------


def _set(arguments: argparse.Namespace, source: Source) -> int:
    from engine.inference import prompt_report, prompts

    for name in ("prompt", "beside", "probabilities"):
        if getattr(arguments, name):
            raise UserError(f"--prompts gives the prompts to one model; leave {'PROMPT' if name == 'prompt' else name} "
                            "out.", where=name)
    given = prompts.read(Path(arguments.prompts).expanduser())
    report = Path(arguments.report).expanduser() if arguments.report else None
    settings = _settings(arguments)
    seed = random.randrange(MOST_SEED) if arguments.seed is None else arguments.seed
    if report:      # refused before the work, not after it
        prompt_report.require(report)
    rows, live = [], sys.stderr.isatty()
    try:
        for row in prompts.write(open_writer(source), given, seed, **settings):
            rows.append(row)
            if live:
                print(f"\r{len(rows)} of {len(given)} prompts", end="", file=sys.stderr, flush=True)
    finally:    # also of a set that Ctrl-C ends
        if live:
            print(file=sys.stderr)
        if report and rows:
            prompt_report.save(report, rows, source.label, {**settings, "seed": seed})
    _print_rows(sorted(rows, key=lambda row: row["number"]), whole=report is None)
    told = prompt_report.figures(rows)
    print(f"{told['prompts']:,} prompts, {told['failed']:,} not written, {told['tokens']:,} tokens, "
          f"{told['tokens_per_second']:,.0f} tokens a second with their prompts, mean surprise {told['surprise']:.3f} "
          f"nats, {told['ended']:.0%} ended by themselves, seed {seed}")
    if report:
        print(f"report: {report}")
    return 0


def _print_rows(rows: list[dict[str, Any]], whole: bool) -> None:
    """All texts, or, where a report has them, those that could not be written."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    for row in rows:
        if row["error"]:
            console.print(f"[yellow]{row['number'] + 1}: {escape(row['error'])}[/]", soft_wrap=True)
        elif whole:
            console.print(f"{escape(row['prompt'])}[cyan]{escape(row['text'])}[/]\n", soft_wrap=True)


# A conversation -----------------------------------------------------------------------------------------


def takes_chat(command: argparse.ArgumentParser) -> None:
    takes_speaker(command)
    command.add_argument("--system", default="", metavar="TEXT", help="what stands before the conversation")
    takes_sampling(command, 512)
    command.epilog = f"Each line is a message, from the keyboard or a pipe. {HELP}."


def chat(arguments: argparse.Namespace) -> int:
    from engine.inference.conversation import NO_TEMPLATE, Conversation

    source = find(arguments.name, Workspace(arguments.workspace), arguments.precision, arguments.adapter)
    model, at_keyboard = open_writer(source), sys.stdin.isatty()
    if not getattr(model, "template", ""):
        raise UserError(f"{NO_TEMPLATE} Let it continue a text: studio generate {arguments.name} PROMPT",
                        where=arguments.name)
    talk = Conversation(arguments.system)
    if at_keyboard:
        print(f"{source.label} answers. {HELP}.")
    for line in _lines(at_keyboard):
        word, _, rest = line.partition(" ")
        if word == "/quit":
            break
        if word == "/clear":
            talk = Conversation(talk.system)
            continue
        if word == "/system":
            talk.system = rest
            continue
        if word == "/again":
            if not talk.again():
                print("there is no answer yet", file=sys.stderr)
                continue
        else:
            talk.say(line)
        try:
            _answer(model, talk, arguments)
        except UserError as error:
            if not at_keyboard:
                raise
            talk.take_back()
            print(f"studio: {error.sentence}", file=sys.stderr)
    return 0


def _lines(at_keyboard: bool) -> Iterator[str]:
    """What is typed or piped in, line by line; empty lines are nothing."""
    if not at_keyboard:
        yield from (line.rstrip("\n") for line in sys.stdin if line.strip())
        return
    import readline  # noqa: F401  arrows and history at the prompt

    while True:
        try:
            line = input("> ")
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if line.strip():
            yield line


def _answer(model: Any, talk: Any, arguments: argparse.Namespace) -> None:
    """One answer, as it comes; Ctrl-C ends it there, and what was said stays said."""
    from engine.inference.conversation import answer

    seed = None if arguments.seed is None else arguments.seed + talk.attempt
    said = []
    try:
        for token in answer(model, talk.messages, seed=seed, **_settings(arguments)):
            print(token.text, end="", flush=True)
            said.append(token.text)
    except KeyboardInterrupt:
        pass
    print()
    talk.heard("".join(said))


# Beside PyTorch -----------------------------------------------------------------------------------------


def takes_differ(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="BUNDLE", help="a bundle or its folder")
    command.add_argument("text", metavar="TEXT", help="the text that both read")
    command.add_argument("--precision", default="float32", metavar="P", help="which of the bundle's graphs (float32)")


def differ(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from engine.export.preview import differ as compare

    source = find(arguments.name, Workspace(arguments.workspace), arguments.precision)
    if source.checkpoint or source.scores:
        raise UserError(f"{source.label} is {'a checkpoint' if source.checkpoint else 'a model that scores'}, and "
                        "only a bundle that writes is compared; choose one.", where=arguments.name)
    rows = compare(source.folder, arguments.text, source.precision)
    grid = Table(box=None, pad_edge=False)
    for place, title in enumerate(("token", "PyTorch", "onnxruntime", "largest difference after it")):
        grid.add_column(title, justify="right" if place else "left")
    for row in rows:
        grid.add_row(escape(repr(row["text"])), *("–" if row[side] is None else f"{row[side]:.4%}"
                                                  for side in ("pytorch", "onnx")), f"{row['difference']:.1e}")
    Console(highlight=False).print(grid)
    print(f"largest difference of a logit over {len(rows)} tokens: {max(row['difference'] for row in rows):.1e}")
    return 0
