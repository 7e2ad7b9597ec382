"""Keys: what programs bring to be let in, as an HTTP header carries it."""

from __future__ import annotations

from engine.config import UserError


def usable(key: str) -> str:
    """The key without the spaces around it, which headers lose; empty for none. UserError where a header cannot carry
    it: it must be printable ASCII without spaces."""
    found = key.strip()
    if key and not (found and all("!" <= sign <= "~" for sign in found)):
        raise UserError("the key must be letters, digits and signs of ASCII without spaces, since a header carries it; "
                        "choose another.", where="key")
    return found
