"""The list of conversations.

`list_model` the rows as Qt's item model · `feed` what the panel needs · `model` where rows come from ·
`delegate` one row painted · `panel` the column with search, filters and the list.
"""
