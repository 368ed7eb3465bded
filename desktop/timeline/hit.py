"""What is under the pointer, and what can be done to a message."""

from enum import Enum
from typing import NamedTuple


class Action(Enum):
    """Something the agent can do about a message; the value is what the button says."""

    RETRY = "Try again"
    EDIT = "Edit"
    DELETE = "Delete"
    WRITE_AGAIN = "Write again"


class Target(Enum):
    NOTHING = "nothing"
    BUBBLE = "bubble"
    TEXT = "text"
    LINK = "link"
    META = "meta"
    ACTION = "action"


class Hit(NamedTuple):
    """`position`: nearest place in the element's selectable text, in UTF-16 units."""

    target: Target
    position: int = 0
    link: str = ""
    action: Action | None = None


NOTHING = Hit(Target.NOTHING)
