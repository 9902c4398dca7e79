"""One screen a file. Pages show the store and hear the jobs; they never import each other."""
