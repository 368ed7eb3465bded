"""Writing to a customer: `editor` the text field, `panel` the bar around it, `model` drafts and sending."""
