"""One small model for all, and one library that no test changes."""

import pytest
from helpers import library
from helpers.library import update_plainly, write_text


@pytest.fixture(scope="session")
def embedder(tmp_path_factory):
    return library.make_embedder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def videos(tmp_path_factory):
    """Two folders: animals with a dog and a bird, cars with a red one. Words are said in two of them."""
    root = tmp_path_factory.mktemp("videos") / "mine"
    library.write_video(root / "animals" / "dog.mp4", 5, 1, ["The dog doesn't bark", "at the café, ok", "bread"])
    library.write_video(root / "animals" / "bird.mp4", 3, 2)
    library.write_video(root / "cars" / "red.mp4", 4, 3, ["a red car", "drives to the cafe", "a red bird and bread"])
    return root


@pytest.fixture(scope="session")
def opened(tmp_path_factory, embedder, videos):
    """Of `videos`; for reading alone."""
    return library.make_library(tmp_path_factory.mktemp("index") / "lib", embedder, videos)


@pytest.fixture
def root(tmp_path):
    """Three files that no decoder reads: rows come from `embed_plainly`."""
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        write_text(tmp_path / "root" / name, name)
    return tmp_path / "root"


@pytest.fixture
def lib(tmp_path, root):
    """The index of `root`."""
    update_plainly(tmp_path / "lib", root)
    return tmp_path / "lib"
