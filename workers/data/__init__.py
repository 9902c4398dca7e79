"""From a file to trainable rows: formats reads, mapping renders and masks, mix draws and splits."""
