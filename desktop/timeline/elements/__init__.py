"""How one row of the timeline is laid out, painted, hit and read aloud. An element is no widget.

`base` the interface · `text_block` styled text with hit-testing · `bubble` what all messages share ·
`message` the kinds of messages · `separators` dates, the unread line, notes about missing messages.
"""
