"""Teacher vectors of a clip in files, one .npy or .pt each for picture and sound: ours, or those that users have."""

import importlib.util
import tokenize

import numpy as np

from save_jax.data.records import TEACHER_DIM


def require_reader(paths: list[str]) -> None:
    """Raises ValueError if any of the files needs PyTorch and it is not installed. For start-up, before the work."""
    needs = [path for path in paths if path.endswith(".pt")]
    if needs and importlib.util.find_spec("torch") is None:
        raise ValueError(
            f"{len(needs)} teacher files are .pt (first: {needs[0]}) and reading them takes PyTorch, which is not "
            "installed: pip install -c constraints.txt -e '.[prep,torch]', or convert them to .npy"
        )


def read_vector(path: str) -> np.ndarray:
    """float32 [1024]. Raises ValueError for an unreadable file, another length, or values that are not finite."""
    if path.endswith(".pt"):
        require_reader([path])
        import torch  # only here: preparation works without it

        try:
            vector = torch.load(path, map_location="cpu", weights_only=True).detach().float().numpy()
        except Exception as error:  # torch raises a dozen kinds for a bad file
            raise ValueError(f"{path}: not a saved tensor ({error})") from error
    else:
        try:
            vector = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError, tokenize.TokenError) as error:  # the last of a damaged header
            raise ValueError(f"{path}: not a .npy array ({error})") from error
    vector = np.asarray(vector, np.float32).reshape(-1)
    if len(vector) != TEACHER_DIM:
        raise ValueError(f"{path}: the vector has {len(vector)} values, shards hold {TEACHER_DIM}")
    if not np.isfinite(vector).all():
        raise ValueError(f"{path}: {np.count_nonzero(~np.isfinite(vector))} of {TEACHER_DIM} values are not finite")
    return vector
