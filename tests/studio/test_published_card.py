"""The card of published models: nothing goes to the network unless a repository is named, and then it says so."""

from __future__ import annotations

import html

from engine import runs
from studio.published_card import PublishedCard


def typed(card, **values):
    for name, value in values.items():
        card.fields[name].param.update(value=value, value_input=value)


def test_the_button_names_the_repository_and_says_that_it_goes_to_the_network(session):
    card = PublishedCard(session)
    assert card.go.disabled
    assert "Nothing goes to the network" in card.words.html
    folder = session.workspace.path / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    typed(card, folder="models/tiny")
    assert (card.go.label, card.go.disabled) == ("Bring in from the folder", False)
    assert "Nothing goes to the network" in card.words.html
    typed(card, folder="", repository="acme/tiny", revision="v1")
    assert (card.go.label, card.go.disabled) == ("Fetch acme/tiny over the network", False)
    assert "This goes to the network: acme/tiny at v1" in html.unescape(card.words.html)


def test_a_folder_elsewhere_is_allowed_by_a_press_and_one_without_a_model_starts_nothing(session, tmp_path):
    card, folder = PublishedCard(session), tmp_path / "elsewhere"
    typed(card, folder=str(folder))
    assert "no such folder" in card.words.html
    folder.mkdir()
    typed(card, folder=f"{folder}/")
    assert "outside the workspace" in card.words.html
    assert card.go.disabled
    card.press(f"allow {folder}")
    assert "has no config.json" in card.words.html
    (folder / "config.json").write_text("{}")
    card.tell()
    assert not card.go.disabled
    assert runs.listing(session.workspace) == []


def test_what_is_named_wrongly_starts_nothing_and_keeps_nobody_from_training(session, monkeypatch):
    card, begun = PublishedCard(session), []
    monkeypatch.setattr(runs, "start", lambda *given: begun.append(given))
    typed(card, repository="https://somewhere/<b>")
    assert card.go.disabled
    assert "write it as OWNER/NAME" in html.unescape(card.words.html)
    assert "<b>" not in card.words.html
    card.go.clicks += 1     # of a browser that had not heard of it yet
    assert not begun
    assert session.recipe() is not None


def test_the_button_starts_a_run_that_asks_for_just_that(session, monkeypatch):
    card, begun = PublishedCard(session), []

    def start(recipe, workspace):
        begun.append(recipe)
        return runs.create(recipe, workspace)

    monkeypatch.setattr(runs, "start", start)
    typed(card, repository="acme/Tiny-1.5", revision="v1")
    card.go.clicks += 1
    (recipe,) = begun
    assert (recipe.name, recipe.jobs) == ("Tiny-1.5", ("import",))
    assert (recipe.published.repository, recipe.published.revision) == ("acme/Tiny-1.5", "v1")
