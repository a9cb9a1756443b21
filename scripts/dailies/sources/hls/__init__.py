"""A playlist of HLS behind a link."""

from dataclasses import dataclass

from dailies.clock import Deadline
from dailies.model import Source
from dailies.sources.hls.kept_segments import Kept
from dailies.sources.hls.recording import Recording, known
from dailies.sources.source import Fetched, Ground, Place


@dataclass(frozen=True)
class Playlist:
    ground: Ground

    def is_here(self, source: Source) -> bool:
        return self.ground.has_link(source)

    def fetch(self, source: Source, place: Place, deadline: Deadline) -> Fetched:
        kept = Kept(place.kept)
        finished = kept.finished(place.target, deadline)
        if finished is not None:
            return known(source, finished)
        return Recording(source, self.ground, place, deadline, kept).run()

    def remove(self, source: Source) -> None:
        """Nothing is deleted on a server."""
