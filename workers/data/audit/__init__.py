"""Looks at every row of a dataset before it is trained on."""
