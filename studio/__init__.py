"""The desktop application and its headless twin. Never imports torch, starts no threads."""
