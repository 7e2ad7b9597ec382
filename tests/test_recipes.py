"""Every shipped recipe is valid, reads back as it was written, and names files that are there."""

from __future__ import annotations

import pytest

from engine.recipe import Recipe, shipped
from engine.workspace import ASSETS


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_recipe_reads_back_the_same(name):
    recipe = Recipe.load(name)
    assert recipe.name == name
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_recipe_reads_bundled_corpora(name):
    for source in Recipe.load(name).corpus.sources:
        assert (ASSETS / source.path).exists()
