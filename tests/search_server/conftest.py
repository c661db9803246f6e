"""One library that is asked, served; and one of bytes that no model read."""

import pytest
from helpers import library, media
from helpers.server import index_plainly, serve

BIG = 40_000_000


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Previews are kept in no cache of the user's."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def embedder(tmp_path_factory):
    return library.make_embedder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def videos(tmp_path_factory):
    """A dog in H.264, a bird that no browser plays, and a line of speech that is a page's trouble."""
    root = tmp_path_factory.mktemp("videos") / "mine"
    library.write_video(root / "animals" / "dog.mp4", 3, 1, ["The dog doesn't bark", "5 < 6 & 7\u202e x", "bread"])
    (root / "films").mkdir(parents=True)
    frames = [media.numbered(k) for k in range(40)]
    media.write_media(root / "films" / "bird.mkv", frames, fps=20, sound=media.tone(16000, 2), codec="mpeg4")
    library.settle(root / "films" / "bird.mkv")
    return root


@pytest.fixture(scope="session")
def opened(tmp_path_factory, embedder, videos):
    return library.make_library(tmp_path_factory.mktemp("index") / "lib", embedder, videos)


@pytest.fixture(scope="session")
def served(opened):
    """For reading alone."""
    with serve(opened) as server:
        yield server


@pytest.fixture
def plain(tmp_path):
    """`plain(name=bytes, …)` → (library, root): an index of these files."""

    def make(**files):
        root = tmp_path / "root"
        for name, content in files.items():
            path = root / "a" / f"{name}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return index_plainly(tmp_path / "index", root), root

    return make
