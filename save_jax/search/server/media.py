"""What a browser can play of a file, by container and codecs, and where its clock begins."""

import collections
import threading
from typing import Literal, NamedTuple

from data_prep.media import clock, tracks
from data_prep.media.opening import MediaError, open_media
from save_jax.search.library import Library
from save_jax.search.server import opening
from save_jax.search.server.opening import Gone, Opened

Plays = Literal["direct", "preview", "no"]
_KNOWN = 10_000  # files whose answer is kept
# Container → codecs of pictures and sound that Chromium, Firefox and Safari play.
_DIRECT = {
    "video/mp4": ({"h264"}, {"aac", "mp3"}),
    "video/webm": ({"vp8", "vp9", "av1", "libdav1d"}, {"opus", "vorbis"}),
}
_FORMATS = {"yuv420p", "yuvj420p"}  # 8 bits; of H.264 they play no other


class Playable(NamedTuple):
    """How a file is played."""

    plays: Plays
    origin: float  # second, from the first picture, at which a player's clock reads 0


class Media:
    """The files behind an index, as they lie here now."""

    def __init__(self, library: Library):
        self._library = library
        self._known: collections.OrderedDict[tuple, Playable] = collections.OrderedDict()
        self._lock = threading.Lock()

    def opened(self, row: dict):
        """As `opening.opened`."""
        return opening.opened(row, self._library.store.about.roots)

    def take(self, row: dict) -> Opened:
        """As `opening.take`."""
        return opening.take(row, self._library.store.about.roots)

    def state(self, row: dict) -> tuple[bool, Plays, float]:
        """(whether it can be opened now, how it is played, `Playable.origin`)."""
        key = row["file"], row["content"], row["modified"]
        try:
            with self.opened(row) as file:
                with self._lock:
                    found = self._known.get(key)
                if found is None:
                    found = probe(file)
                    with self._lock:
                        self._known[key] = found
                        if len(self._known) > _KNOWN:
                            self._known.popitem(last=False)
                return True, found.plays, found.origin
        except Gone:
            return False, "no", 0.0


def probe(file: Opened) -> Playable:
    """How a file is played. What no browser knows by its container is not looked into."""
    if file.kind not in _DIRECT:
        return Playable("preview", 0.0)
    try:
        with open_media(file.path) as container:
            pictures, sounds = container.streams.video, container.streams.audio
            picture = tracks.best(container, "", "video")
            if picture is None:
                return Playable("no", 0.0)
            seen, heard = _DIRECT[file.kind]
            codec = picture.codec_context
            plain = codec.name in seen and (codec.name != "h264" or getattr(codec, "pix_fmt", "") in _FORMATS)
            direct = plain and len(pictures) == 1 and all(sound.codec_context.name in heard for sound in sounds)
            if not direct:
                return Playable("preview", 0.0)
            origin = clock.file_start(container) - clock.picture_start(container, file.path)
            return Playable("direct", clock.settled(round(origin, 3)))
    except (MediaError, AttributeError):  # a stream without a decoder has no context
        return Playable("no", 0.0)
