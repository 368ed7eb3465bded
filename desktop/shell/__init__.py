"""The main window: `window` puts the parts together, `rail`, `banner`, `chat_pane`, `shortcuts` are the parts."""
