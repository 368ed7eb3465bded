"""An emulator of Meta's WhatsApp Cloud API with customers that write: `relay sandbox`.

A second, independent reading of Meta's documentation: nothing here is shared with the relay's own Meta
client, so an error in one of the two shows as a disagreement. State lives in memory.
"""
