"""Errors made for people: what happened, and what they can do next."""


class UserFacing(Exception):  # noqa: N818 - a family name: most members end in what went wrong
    """Something outside the program went wrong; shown to the person, never reported as a bug.

    `title` says what happened, `advice` what can be done, `code` is stable and for programs
    (a relay's problem code, or one of ours).
    """

    code = "error"

    def __init__(self, title: str, advice: str = "", *, code: str | None = None) -> None:
        super().__init__(f"{title} {advice}".strip())
        self.title = title
        self.advice = advice
        if code is not None:
            self.code = code
