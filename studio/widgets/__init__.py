"""One control a file. Widgets know the theme, and nothing of jobs, pages or the store."""
