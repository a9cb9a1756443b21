"""A file without pictures."""


class NoPictures(Exception):
    """There is no stream of pictures in the file."""
