"""The pages, in the order of the path. To add one, write `studio/pages/NOUN.py` and put its class here."""

from __future__ import annotations

from studio.page import Page
from studio.pages.corpus import Corpus
from studio.pages.evaluate import Evaluate
from studio.pages.export import Export
from studio.pages.home import Home
from studio.pages.inference import Test
from studio.pages.model import Model
from studio.pages.optim import Optim
from studio.pages.runs import Runs
from studio.pages.stages import Train
from studio.pages.tokens import Tokens

PAGES: list[type[Page]] = [Home, Corpus, Tokens, Model, Optim, Train, Runs, Evaluate, Export, Test]
