"""The engine as the views know it: what can be asked of it. (Composition is in `start` and `_open_account`.)

Reads go through `queries`; everything else is a command below. All of it runs on the engine's thread.
"""

from uuid import UUID

from desktop.cache.queries import Queries
from desktop.cache.rows import MessageRow, UnsentMessage
from shared.wire.auth import Me


class Engine:
    """Commands raise `desktop.errors.UserFacing` for what a person should know."""

    @property
    def queries(self) -> Queries:
        """Reads from the cache. Raises `NotSignedIn` while no account is open."""
        raise NotImplementedError

    async def sign_in(self, relay_url: str, email: str, password: str, *, remember: bool) -> Me:
        """Sign in and open the account's cache. `remember`: keep the session in the keyring.

        Without it the cache is encrypted with a key that only this process knows and is deleted at the end.
        """
        raise NotImplementedError

    async def sign_out(self, *, discard_unsent: bool = False) -> None:
        """Sign out and delete the cache. Raises `UnsentLeft` if messages would be lost and not allowed."""
        raise NotImplementedError

    async def send_text(self, conversation_id: UUID, body: str, seen_message_id: UUID | None) -> MessageRow:
        """Queue a message; it is on disk when this returns. `seen_message_id`: newest message on screen."""
        raise NotImplementedError

    async def retry_send(self, client_id: UUID) -> None:
        """Try a wedged or waiting message again now."""
        raise NotImplementedError

    async def cancel_send(self, client_id: UUID) -> UnsentMessage:
        """Take an unsent message back, to edit or drop it. Raises `AlreadyLeaving` while it is being sent."""
        raise NotImplementedError

    async def mark_read(self, conversation_id: UUID, message_id: UUID) -> None:
        """Everything up to this message was seen. Takes effect here at once, at the relay when it can."""
        raise NotImplementedError

    async def open_conversation(self, conversation_id: UUID) -> None:
        """The agent looks at it: bring its newest page if the cache cannot promise to be complete."""
        raise NotImplementedError

    async def load_older(self, conversation_id: UUID) -> int:
        """Bring one more page of older messages; how many came. 0 at the start of the conversation."""
        raise NotImplementedError

    async def save_draft(self, conversation_id: UUID, text: str) -> None:
        """Keep what is in the composer; an empty text removes it."""
        raise NotImplementedError

    async def retry_now(self) -> None:
        """Connect and send at once instead of waiting: "Try now", waking from sleep, a network change."""
        raise NotImplementedError

    async def rebuild_cache(self) -> None:
        """After `CacheUnavailable`: set the unreadable file aside and load everything from the relay."""
        raise NotImplementedError

    async def start(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError
