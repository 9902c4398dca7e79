"""From a file to trainable rows, and from a row to the tokens that a stage trains on.

`read` finds and reads files, `schema` says what their columns mean, `reader` is the front door to
both, `mix` splits and mixes, `tokenize` makes token ids and labels, `audit` looks at every row
beforehand, `browse` shows any row at once.
"""
