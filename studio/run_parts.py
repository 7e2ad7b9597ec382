"""Parts of a run as markup: status, jobs, figures, samples, checkpoints, verdict, log."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from typing import Any

from engine import runs
from engine.runs import Run, Status
from engine.runs.folder import STALE_SECONDS
from engine.workspace import Workspace
from studio.plots import run_colour
from studio.session import Session
from studio.texts import path
from studio.views import Markup, age, banner, bar, chip, duration, icon, join, number, press, size, tiles, txt
from studio.watch import Feed, Line

JOB_WORDS = {"probe": "Measure a few steps", "import": "Bring in a model", "curate": "Clean the text",
             "tokenize": "Make tokens", "train": "Train", "evaluate": "Evaluate", "export": "Export",
             "benchmark": "Measure the speed",
             "lr_range": "Find a learning rate", "sweep": "Sweep"}
LOST = "The process behind this run is gone: the machine was restarted, or it was killed. What it saved is here."


def listing(lines: Sequence[Line], selected: Sequence[str]) -> Markup:
    """The runs as rows to choose from; the tick compares a run with the one that is looked at."""
    return txt('<div class="runs" role="list">{}</div>', join(_listed(line, selected) for line in lines))


def _listed(line: Line, selected: Sequence[str]) -> Markup:
    status, main = line.status, bool(selected) and selected[0] == line.name
    drawn = line.name in selected
    style = txt(' style="--run:{}"', run_colour(list(selected).index(line.name))) if drawn else Markup("")
    facts = [f"lowest val loss {number(line.val_loss)}"] if line.val_loss is not None else []
    facts.append(age(status.created) if status.created else "")
    tagged = join(txt('<span class="tag">#{}</span>', tag) for tag in line.noted.tags)
    compare = "" if main else txt(
        '<button type="button" class="tick {}" data-press="compare:{}" aria-pressed="{}" '
        'title="Compare with the selected run"{}>{}</button>', "on" if drawn else "", line.name,
        "true" if drawn else "false", style, icon("check_box" if drawn else "add_chart"))
    progress = bar(status.step, status.of) if status.state in ("running", "stopping", "paused") else ""
    return txt('<div class="run {}" role="listitem"><button type="button" class="pick" data-press="pick:{}" '
               'aria-current="{}"><span class="name">{}</span>{}<span class="facts">{}{}</span>{}</button>{}</div>',
               "main" if main else "", line.name, "true" if main else "false", line.name, chip(status.state),
               " · ".join(filter(None, facts)), tagged, progress, compare)


def head(feed: Feed, *, watch: bool = False, alone: bool = False) -> Markup:
    """Name, state, how far, and the buttons that the state allows.

    `watch` adds the way to the run's own page; `alone`, there are no other pages to go to.
    """
    status = feed.status
    return txt('<div class="runhead"><div class="top"><h2>{}</h2>{}<span class="buttons">{}{}</span></div>{}</div>',
               feed.run.name, chip(status.state), press("Details", "watch", "quiet", "show_chart") if watch else "",
               buttons(feed, trash=not watch and not alone, talk=not alone), progress(status))


def buttons(feed: Feed, *, trash: bool = True, talk: bool = True) -> Markup:
    state = feed.status.state
    found = []
    if state in ("running", "queued"):
        found += [press("Pause", "pause", sign="pause"), STOP]
    if state == "paused":
        found += [press("Resume", "resume", "full", "play_arrow"), STOP]
    if state in ("stopped", "failed", "lost"):
        word = "Resume from last good" if state != "stopped" and feed.run.checkpoints else "Resume"
        found.append(press(word, "resume", "full", "play_arrow"))
    if talk and feed.told("parity") and feed.told("parity")[-1].get("passed"):
        found.append(press("Talk to it", "talk", "full", "chat"))
    if trash and not feed.status.active:
        found.append(_titled(press("Move to trash", "trash", "quiet", "delete_outline"),
                             "Moves the run's folder to the workspace's trash. Nothing is deleted."))
    return join(found)


def act(session: Session, run: Run, what: str) -> None:
    """Do what one of the buttons says."""
    if what == "stop":
        session.attempt(runs.stop, run)
        session.notify("Saving a checkpoint at the next step, then stopping. The run can be resumed.")
    elif what == "pause":
        session.attempt(runs.pause, run)
        session.notify("The run will wait at its next step.")
    elif what == "resume":
        if session.attempt(runs.resume, run):
            session.notify(f"{run.name} goes on.", "success")
    elif what == "talk":
        session.goto("inference", bundle=run.made().get("bundle", "").rsplit("/", 1)[-1])
    elif what == "trash":
        where = session.attempt(runs.trash, run, session.workspace)
        if where is not None:
            session.notify(f"{run.name} is in the trash now; it can be brought back below the list.")
            session.param.update(run="", others="")


def _titled(button: Markup, words: str) -> Markup:
    return txt('<span title="{}">{}</span>', words, button)


STOP = _titled(press("Stop and save", "stop", sign="stop"), "Saves a checkpoint and stops. It can be resumed.")


def progress(status: Status) -> Markup:
    """One line of words and the bar of the job in hand."""
    if status.awaits and status.message.startswith("waits for: "):
        return txt('<p class="line">Waits for you to start its processes with</p>{}',
                   path(status.message.removeprefix("waits for: ")))
    words = [JOB_WORDS.get(status.job, status.job)] if status.job else []
    if status.of:
        words.append(f"{status.step:,} of {status.of:,}")
    if status.message:
        words.append(status.message)
    if status.state == "running" and status.eta_seconds is not None:
        words.append(f"{duration(status.eta_seconds)} left")
    if status.state in ("finished", "stopped", "failed") and status.started:
        words = [f"{status.state} after {duration(status.ended - status.started)}", age(status.ended)]
    if status.state == "stopping":
        words = ["Saving a checkpoint, then stopping"]
    if status.active and status.host not in ("", platform.node()) and time.time() - status.heartbeat > STALE_SECONDS:
        words.append(f"last news from {status.host} {age(status.heartbeat)}")
    shown = bar(status.step, status.of) if status.state in ("running", "stopping", "paused", "queued") else ""
    return txt('<p class="line">{}</p>{}', " · ".join(words), shown)


def trouble(feed: Feed) -> Markup:
    """What went wrong and what to do about it; empty when all is well."""
    status = feed.status
    found = []
    if status.state == "failed":
        found.append(banner("error", status.error or "The run failed; its log has the details."))
    if status.state == "lost":
        found.append(banner("warning", status.error or LOST))
    advice = [*feed.told("warning"), *feed.told("advice")]
    found += [banner("info", event.get("sentence") or event.get("message") or "") for event in advice[-2:]]
    return txt('<div class="stack">{}</div>', join(found)) if found else Markup("")


def stepper(jobs: Sequence[str], status: Status) -> Markup:
    """The jobs of a run as a path: done, in hand, to come."""
    at = jobs.index(status.job) if status.job in jobs else -1
    found = []
    for place, job in enumerate(jobs):
        done = place < at or status.state == "finished"
        here = place == at and not done
        ended = "failed" if status.state in ("failed", "lost") else "here"
        state = "done" if done else ended if here else "todo"
        sign = {"done": "check", "failed": "priority_high", "here": "more_horiz", "todo": ""}[state]
        part = f" {min(100, 100 * status.step / status.of):.0f}%" if here and status.of and status.active else ""
        found.append(txt('<li class="{}"><i>{}</i><span>{}{}</span></li>', state, icon(sign) if sign else place + 1,
                         JOB_WORDS.get(job, job), part))
    return txt('<ol class="stepper">{}</ol>', join(found))


def figures(feed: Feed) -> Markup:
    """The newest numbers."""
    found: list[tuple[str, Any]] = [("Step", number(_step(feed)))]
    for metric, words, digits in (("train/loss", "Train loss", 3), ("val/loss", "Validation loss", 3),
                                  ("val/perplexity", "Perplexity", 2), ("val/bits_per_byte", "Bits per byte", 3)):
        if feed.last(metric) is not None:
            found.append((words, _with_lowest(feed, metric, digits) if metric == "val/loss" else
                          number(feed.last(metric), digits)))
    if (speed := feed.last("speed/tokens_per_second")) is not None:
        found.append(("Tokens per second", size(speed)))
    rows = feed.series.get("train/loss")
    if rows is not None and rows.length:
        found.append(("Tokens seen", size(rows.axis("tokens")[-1])))
    if (memory := feed.last("memory/peak_gib")) is not None:
        found.append(("Peak memory", txt("{} <small>GiB</small>", number(memory, 2))))
    return tiles(found) if len(found) > 1 else Markup("")


def _with_lowest(feed: Feed, metric: str, digits: int) -> Markup:
    """The newest value, and the lowest where that is another."""
    newest, lowest = number(feed.last(metric), digits), number((feed.best(metric) or (None,))[0], digits)
    return txt("{}{}", newest, txt(" <small>lowest {}</small>", lowest) if lowest != newest else "")


def _step(feed: Feed) -> int | None:
    rows = feed.series.get("train/loss")
    return int(rows.axis("step")[-1]) if rows is not None and rows.length else None


def sample_steps(feed: Feed) -> list[int]:
    """The steps at which the run wrote samples."""
    return sorted({int(event.get("step", 0)) for event in feed.told("sample")})


def samples(feed: Feed, step: int) -> Markup:
    """What the model wrote at one step: its prompt, and how it went on."""
    found = [event for event in feed.told("sample") if int(event.get("step", 0)) == step]
    return txt('<div class="samples">{}</div>', join(
        txt('<blockquote><b>{}</b>{}</blockquote>', event.get("prompt", ""),
            str(event.get("text", "")).removeprefix(str(event.get("prompt", "")))) for event in found))


def verdict(feed: Feed) -> Markup:
    """The parity gate's sentence and figures; empty before the export."""
    told = feed.told("parity")
    if not told:
        return Markup("")
    parity = told[-1]
    passed = bool(parity.get("passed"))
    facts = [("Largest difference of a logit", f"{parity.get('max_difference', float('nan')):.2g}"),
             ("Allowed", f"{parity.get('tolerance', float('nan')):.2g}"),
             ("Greedy tokens equal", txt("{} <small>of {}</small>", parity.get("greedy_tokens_equal", "–"),
                                         parity.get("greedy_tokens", "–"))),
             ("Cases", len(parity.get("cases", [])))]
    return txt('{}<div class="gap">{}</div>', banner("success" if passed else "error", txt(
        "<b>{}</b> {}", "The export is the same model." if passed else "The export is not the same model.",
        parity.get("sentence", ""))), tiles(facts))


def checkpoints(feed: Feed) -> Markup:
    told = feed.told("checkpoint")
    kept = {path.name for path in feed.run.checkpoints}
    measured = [event for event in told if isinstance(event.get("val_loss"), (int, float))]
    best = min(measured, key=lambda event: event["val_loss"], default={})
    rows = join(txt('<tr><td class="num">{}</td><td class="num">{}</td><td>{}</td><td class="num">{}</td>'
                    '<td class="num">{}</td><td class="mono">{}</td></tr>',
                    number(event.get("step")), number(event.get("val_loss")),
                    "best" if event.get("step") == best.get("step") else "",
                    _moment(event.get("stall_seconds")), _moment(event.get("write_seconds")),
                    event.get("path") if str(event.get("path")).rsplit("/", 1)[-1] in kept else "replaced by newer")
                for event in reversed(told[-40:]))
    return txt('<table><tr><th class="num">step</th><th class="num">validation loss</th><th></th>'
               '<th class="num">training stood still</th><th class="num">written in</th><th>folder</th></tr>{}'
               "</table>", rows) if told else txt('<p class="line">None yet.</p>')


def _moment(seconds: Any) -> str:
    if not isinstance(seconds, int | float):
        return "–"
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def resolved(feed: Feed) -> Markup:
    rows = join(txt("<tr><td class='mono'>{}</td><td>{}</td><td>{}</td></tr>", event.get("setting"), event.get("value"),
                    event.get("why", "")) for event in feed.told("resolved"))
    return txt("<table><tr><th>setting</th><th>became</th><th>because</th></tr>{}</table>", rows) if rows else txt(
        '<p class="line">Nothing in the recipe was left to be chosen.</p>')


def timeline(feed: Feed) -> Markup:
    """States, jobs, warnings and the doctor's advice, with their times."""
    found = [event for event in feed.events
             if event.get("kind") in ("state", "job", "warning", "advice") and "time" in event]
    return txt("<table>{}</table>", join(
        txt('<tr><td class="num">{}</td><td>{}</td></tr>', time.strftime("%d %b %H:%M:%S", time.localtime(e["time"])),
            _happened(e)) for e in found[-60:]))


def _happened(event: dict[str, Any]) -> Any:
    if event["kind"] in ("warning", "advice"):
        what = str(event.get("what") or event["kind"]).capitalize()
        return txt("<b>{}.</b> {}", what, event.get("sentence", ""))
    return event.get("state") or JOB_WORDS.get(event.get("job", ""), event.get("job"))


def log(feed: Feed) -> Markup:
    return txt('<pre class="log" data-follow tabindex="0">{}</pre>', feed.run.log(32_768) or "The log is empty.")


def what_exists(workspace: Workspace) -> dict[str, int]:
    """How many of each kind of thing there are."""
    return {kind: len(workspace.listing(kind)) for kind in ("datasets", "tokens", "runs", "bundles")}
