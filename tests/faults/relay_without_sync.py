"""`relay` as it must never run: it acknowledges webhooks that are not on disk. For one test alone."""

from relay.cli import main
from relay.inbound import raw_store
from relay.kit import roles

if __name__ == "__main__":
    raw_store.SYNCHRONOUS_COMMIT = "off"  # type: ignore[misc]  # the point of the test
    roles.check_database = lambda connection: None
    main()
