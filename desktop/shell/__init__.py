"""The main window and the program around it.

`program` life and death of the process · `controller` ties the window to the engine · `window` puts the parts
together · `rail`, `banner`, `chat_pane`, `shortcuts`, `confirm` the parts.
"""
