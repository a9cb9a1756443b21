"""Which ffmpeg: the `imageio-ffmpeg` wheel's, unless DAILIES_FFMPEG names another."""

from functools import cache
from typing import Final

from dailies.config import ffmpeg_override
from dailies.errors import ConfigError

# What may be opened, by content and never by name: a playlist or a concat script dressed as .mp4 could name other
# files or addresses. Both ffmpeg and PyAV are given these (docs/architecture.md, "Hostile files").
FORMATS: Final = "mov,matroska,webm,mpegts,mpeg,avi,flv,asf,ogg,mxf,nut,ivf,dv,wtv,wav,mp3,aac,flac,ac3,eac3,aiff,caf"
PROTOCOLS: Final = "file,pipe"


@cache
def executable() -> str:
    """Raises ConfigError when there is none for this machine."""
    named = ffmpeg_override()
    if named:
        return named
    import imageio_ffmpeg

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise ConfigError("ffmpeg: the imageio-ffmpeg wheel has none for this machine; name one in DAILIES_FFMPEG") from error
