"""From a file to trainable rows.

formats is the entry: sources finds the files (hub fetches them), lines and tables read them, turns
and shapes tell what they hold, pages looks into large ones. mapping renders and masks, mix draws
and splits.
"""
