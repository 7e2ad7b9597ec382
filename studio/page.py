"""Page: one noun, seen. The shell makes one of each for a session, when it is first shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from panel.viewable import Viewable

if TYPE_CHECKING:
    from studio.session import Session


class Page:
    """A page has a name, an icon and a view; what it does belongs to the engine."""

    title: ClassVar[str]
    icon: ClassVar[str]  # a name from Material Icons
    noun: ClassVar[str]  # its file here, its folder in the engine, its help in the assets
    line: ClassVar[str]  # what the page is for, in one sentence under its title
    sections: ClassVar[tuple[str, ...]] = ()  # of the recipe that its forms edit; they can be shown as code
    command: ClassVar[str] = ""  # of the command line, that does the page's job

    def __init__(self, session: Session) -> None:
        self.session = session

    def view(self) -> Viewable:
        """The page's content; called once, when the page is first shown."""
        raise NotImplementedError(type(self).__name__)

    def tick(self) -> None:
        """Called twice a second while the page is visible."""

    def shown(self) -> None:
        """Called each time that the page comes into sight, after `view`."""
