"""Plan: what a recipe will cost before it is started: memory, time, energy, money, CO2e and the loss to expect.

Arithmetic from the config alone, torch-free, so that a page can show it while one types. `prices` holds the figures
that it is reckoned with, each with its source.
"""

from engine.plan.prices import EDITABLE, UNITS, Figure, Machine, Prices

__all__ = ["EDITABLE", "UNITS", "Figure", "Machine", "Prices"]
