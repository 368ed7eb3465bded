"""Ids in the forms that Meta gives them, repeatable from one seed."""

import base64
import hashlib
import random
from typing import Final

TO_USER: Final = 0x11
TO_BUSINESS: Final = 0x12
_URL_SAFE: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"


class Ids:
    """Makes ids. The same seed gives the same ids in the same order, per kind of id."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._wamids = random.Random(f"{seed}/wamid")  # noqa: S311 - ids of an emulator, not secrets
        self._traces = random.Random(f"{seed}/trace")  # noqa: S311
        self._objects = random.Random(f"{seed}/object")  # noqa: S311

    def object_id(self) -> str:
        """A decimal id of 15 digits: WABA, phone number, app, portfolio."""
        return str(self._objects.randrange(10**14, 10**15))

    def secret(self) -> str:
        """An app secret: 32 hexadecimal digits."""
        return f"{self._objects.getrandbits(128):032x}"

    def access_token(self) -> str:
        return "EAA" + "".join(self._objects.choices(_URL_SAFE[:62], k=48))

    def wamid(self, user_digits: str, direction: int) -> str:
        """`wamid.` + base64 of `1C 18 len phone 15 02 00 direction 18 len id 00`."""
        length = 9 if direction == TO_USER else 10
        unique = self._wamids.randbytes(length).hex().upper().encode()
        user = user_digits.encode()
        raw = b"\x1c\x18%c%b\x15\x02\x00%c\x18%c%b\x00" % (len(user), user, direction, len(unique), unique)
        return "wamid." + base64.b64encode(raw).decode()

    def fbtrace_id(self) -> str:
        return "A" + "".join(self._traces.choices(_URL_SAFE, k=22))

    def bsuid(self, country: str, portfolio_id: str, person: str) -> str:
        """The id of a person within a business portfolio: always the same for the same three values."""
        digest = hashlib.sha256(f"{self._seed}/{portfolio_id}/{person}".encode()).digest()
        return f"{country}.{10**19 + int.from_bytes(digest[:8]) % (9 * 10**19)}"
