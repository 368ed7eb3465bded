"""The hosted relay: takes Meta's webhooks, keeps conversations, sends replies, feeds desktops."""
