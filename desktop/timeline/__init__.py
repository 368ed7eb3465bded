"""The timeline: a painted view over a sliding window of messages.

Read in this order: `window` (which rows are loaded), `marks` (WhatsApp's text marks), `elements/` (how one
row is laid out and painted), `stack` (where elements are, and the anchor), `view` (the widget), `accessible`
(what a screen reader sees), `model` (where rows come from).
"""
