"""Any row of a file of any size, at once: line index, row cache, edited versions."""
