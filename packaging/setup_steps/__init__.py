"""The steps of the set-up, each beside what it needs to know. Standard library only."""
