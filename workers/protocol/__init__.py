"""The schema that the studio and the workers share. Imports msgspec and the standard library only.

`recipe` says what can be asked of a training run, `jobs` what can be asked of a worker, `events`
what a worker says and `requests` what it can be told meanwhile; `wire` puts them on disk.
"""

VERSION = 1
"""Raised when a reader of the previous version could misread what a writer now writes."""
