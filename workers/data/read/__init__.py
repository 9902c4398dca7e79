"""From a path or hub name to raw rows: finding files, JSON, tables, the hub."""
