"""A link that turned out to lead to something of another kind than its name said."""

from dailies.errors import Category, VideoError


class Turned(VideoError):
    """`kind` is the source that fetches it; raised again, by that one, it is a refusal."""

    category = Category.UNSUPPORTED

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind
