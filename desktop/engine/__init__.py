"""The client without a window: session, network, sync, outbox. asyncio only, never Qt.

`engine.Engine` is what the bridge starts and what views call (reads through `Engine.queries`); `events` is
what it tells them. Of the others each does one thing: `session` who is signed in, `api` the relay's HTTP,
`sync` the cache follows the feed, `live` the socket, `history` older messages, `outbox` messages that wait
to be sent, `read_marks` what was read here.
"""
