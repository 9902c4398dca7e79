"""From a row to token ids and labels; the only truth about tokens and masks."""
