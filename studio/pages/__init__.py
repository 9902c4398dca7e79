"""One screen a file. Pages show the store and follow jobs; they never import each other."""
