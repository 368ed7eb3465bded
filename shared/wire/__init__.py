"""The bodies of `/api/v1` and the frames of its socket, as msgspec structs.

Times are timezone-aware and travel as RFC 3339 in UTC; ids are UUIDv7.
New fields get a default, so that an older desktop and a newer relay understand each other.
"""
