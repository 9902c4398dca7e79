"""What a raw row means: its schema, found or mapped by hand, and its messages."""
