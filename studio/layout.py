"""Layout: how a page's cards stand, and the frames around pictures and results."""

from __future__ import annotations

from typing import Any

import panel as pn
import panel_material_ui as pmui
from panel.viewable import Viewable

NO_BUTTON = ".scroll-button { display: none; }"
"""A Panel column ends in a button of no height, and a gap before it."""


NAMED = {"components": {"MuiTooltip": {"defaultProps": {"describeChild": True}}}}
"""A tooltip describes its button, to one who listens, and doesn't take the place of the button's name."""


def split(main: list[Viewable], aside: list[Viewable], *, left: str = "minmax(0, 7fr)",
          right: str = "minmax(0, 5fr)") -> Viewable:
    """Two columns where there is room, the second one staying in sight; else one below the other."""
    return pmui.FlexBox(stack(*main), stack(*aside), sizing_mode="stretch_width", margin=0, sx={
        "display": "grid", "gridTemplateColumns": {"xs": "minmax(0, 1fr)", "lg": f"{left} {right}"}, "gap": "20px",
        "alignItems": "start", "& > *": {"width": "100%", "minWidth": 0},
        "& > :last-child": {"position": {"lg": "sticky"}, "top": "20px"}})


def pair(*views: Viewable) -> Viewable:
    """Equals side by side, as many as there is room for."""
    # Not a Material box: a figure in one that comes into a page that is drawn already is measured before the box has
    # a width, and keeps none.
    return pn.Row(*(stack(view, styles={"flex": "1 1 340px", "min-width": "0"}) for view in views),
                  sizing_mode="stretch_width", margin=0, styles={"flex-wrap": "wrap", "gap": "20px"})


def stack(*views: Viewable, gap: str = "20px", **params: Any) -> pn.Column:
    """One below the other."""
    return pn.Column(*views, **{"sizing_mode": "stretch_width", "margin": 0, "styles": {"gap": gap},
                                "stylesheets": [NO_BUTTON], **params})


def actions(*views: Viewable) -> Viewable:
    """Buttons in a row."""
    return pmui.FlexBox(*views, sizing_mode="stretch_width", margin=0, gap="10px", align_items="center")


def button(label: str, icon: str, act: Any, *, main: bool = False, **params: Any) -> pmui.Button:
    """A button that does one thing; `main` for the one that the page is for."""
    return pmui.Button(label=label, icon=icon, on_click=lambda *_: act(), margin=0, theme_config=NAMED,
                       **{"variant": "contained" if main else "outlined", "color": "primary", **params})


def later(*views: Any, **params: Any) -> pn.Column:
    """A stack out of sight, whose views become part of the page when it first comes into sight."""
    held = stack(visible=False, **params)
    held.param.watch(lambda event: held.objects or held.extend(views), "visible")
    return held


def picture(element: Any = None, **params: Any) -> pn.pane.HoloViews:
    """The frame of a still figure; a new `object` replaces it.

    To hide it, put it into `later`: its own `visible` is handed on to the figure with settings that no figure has.
    """
    return pn.pane.HoloViews(element, **{"sizing_mode": "stretch_width", "margin": 0, "linked_axes": False, **params})
