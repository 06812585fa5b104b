"""Networks written in the formats of other runtimes: a module per format.

A module has `QUANTIZATIONS` (those that the format has), `PACKAGES` (what it needs),
`NAME` (of the file or folder) and `write`.
"""
