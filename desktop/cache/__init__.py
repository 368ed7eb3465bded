"""The local, encrypted copy of what this account may see. Only `desktop.engine` writes it.

`rows` is what views get, `queries` how they ask; `store` opens the file, `schema` and `migrations` shape it,
`writes` changes it.
"""
