"""Colours and type, light and dark. Everything comes from this machine: fonts and icons are bundled."""

from __future__ import annotations

from typing import Any

from engine.workspace import ASSETS

STYLESHEET = (ASSETS / "theme" / "studio.css").read_text(encoding="utf-8")
CURVE = (ASSETS / "theme" / "curve.svg").read_text(encoding="utf-8")
LOGO = (ASSETS / "theme" / "logo.svg").read_text(encoding="utf-8")

RUN_COLOURS = ("#12988a", "#c2570c", "#5b6ee1", "#b0388f", "#7a8a12", "#2a86c7", "#a3591d", "#6b7280")
"""One colour a run, told apart with the common colour blindnesses and readable on both backgrounds."""

VALIDATION_COLOUR = "#d97d1f"

FONT = "Roboto, 'Helvetica Neue', Arial, sans-serif"


def _theme(dark: bool) -> dict[str, Any]:
    ink, line = ("#e7ebea", "rgba(255,255,255,0.12)") if dark else ("#182220", "rgba(16,40,36,0.13)")
    page, card = ("#111615", "#191f1e") if dark else ("#f6f7f5", "#ffffff")
    return {
        "palette": {
            "mode": "dark" if dark else "light",
            "primary": {"main": "#4cc5b4" if dark else "#0b6e62", "contrastText": "#062925" if dark else "#ffffff"},
            "secondary": {"main": "#f0a35e" if dark else "#b4500b"},
            "success": {"main": "#5ecb8a" if dark else "#1a7f4b"},
            "warning": {"main": "#eab14f" if dark else "#9a6200"},
            "error": {"main": "#f28b82" if dark else "#b3261e"},
            "info": {"main": "#7fb4e8" if dark else "#2563a8"},
            "background": {"default": page, "paper": card},
            "text": {"primary": ink, "secondary": "#a3b0ad" if dark else "#56635f"},
            "divider": line,
        },
        "shape": {"borderRadius": 10},
        "typography": {
            "fontFamily": FONT,
            "fontSize": 14,
            "body1": {"fontSize": 14},
            "button": {"textTransform": "none", "fontWeight": 700, "letterSpacing": 0},
        },
        "components": {
            "MuiButton": {"defaultProps": {"disableElevation": True},
                          "styleOverrides": {"root": {"borderRadius": 8, "paddingInline": 16}}},
            "MuiInputBase": {"styleOverrides": {"root": {"fontSize": 15, "minHeight": 40}}},
            "MuiInputLabel": {"styleOverrides": {"root": {"fontSize": 15}}},
            "MuiPaper": {"styleOverrides": {"root": {"backgroundImage": "none"}}},
            "MuiFormHelperText": {"styleOverrides": {"root": {"marginLeft": 2, "marginRight": 0, "lineHeight": 1.35}}},
            "MuiListItemButton": {"styleOverrides": {"root": {"borderRadius": 8}}},
        },
    }


THEME: dict[str, Any] = {"light": _theme(dark=False), "dark": _theme(dark=True)}

PAGE_SX: dict[str, Any] = {
    "& .MuiAppBar-root.header": {
        "backgroundColor": "background.paper", "color": "text.primary", "boxShadow": "none",
        "borderBottom": "1px solid", "borderColor": "divider", "backgroundImage": "none",
    },
    "& .MuiDrawer-paper.sidebar": {"backgroundColor": "background.default", "borderColor": "divider"},
    "& main": {"backgroundColor": "background.default"},
}

CARD_SX: dict[str, Any] = {"borderColor": "divider", "padding": "20px", "borderRadius": "12px"}
