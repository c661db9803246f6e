"""Pictures of a folder: each upright, as 8-bit RGB, whatever a picture file holds.

Sixteen bits keep their high byte, as video does. Transparent parts are shown on white, as pages show them. What is
altered is told.
"""

import collections
import io
import os
import re
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageCms, ImageOps

from data_prep.media.opening import MediaError
from data_prep.media.tracks import Tell, silent

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")
_PAGED = ("PNG", "TIFF", "WEBP")  # not MPO: what follows in a phone's JPEG is a depth or gain map


def pictures_of_folder(path: str, max_frames: int, tell: Tell = silent) -> Iterator[tuple[np.ndarray, float]]:
    """uint8 [height, width, 3] and second of each chosen picture: one a second, in natural order of names.

    Raises MediaError for a folder without pictures, and for a picture that cannot be read.
    """
    names = [entry for entry in os.listdir(path) if entry.lower().endswith(SUFFIXES) and not entry.startswith(".")]
    if not names:
        raise MediaError(f"{path}: no picture in this folder ({', '.join(SUFFIXES)})")
    names.sort(key=_natural)
    altered: collections.Counter[str] = collections.Counter()
    chosen = np.linspace(0, len(names) - 1, min(len(names), max_frames)).astype(int).tolist()
    for second in chosen:
        file = os.path.join(path, names[second])
        try:
            with Image.open(file) as picture:
                image = _rgb(ImageOps.exif_transpose(picture), altered)
                if picture.format in _PAGED and getattr(picture, "n_frames", 1) > 1:
                    altered["only the first of several pictures in a file is seen"] += 1
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise MediaError(f"{file}: not a readable picture ({error})") from error
        yield image, float(second)
    for what, count in altered.items():
        tell(f"{count} of {len(chosen)}: {what}")


def _rgb(picture: Image.Image, altered: collections.Counter[str]) -> np.ndarray:
    """uint8 [height, width, 3]; raises ValueError for numbers of which it is not known what white is."""
    if picture.mode[0] in "IF":
        return np.repeat(_eight_bits(np.asarray(picture))[..., None], 3, axis=2)
    if picture.has_transparency_data:
        whole = picture.convert("RGBA")
        if np.asarray(whole.getchannel("A")).min() < 255:
            altered["transparent parts are shown on white"] += 1
            white = Image.new("RGBA", whole.size, "white")
            return np.asarray(Image.alpha_composite(white, whole).convert("RGB"))
    if picture.mode == "CMYK":
        return np.asarray(_from_inks(picture, altered))
    return np.asarray(picture.convert("RGB"))


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Grey as uint8, of 16 bits or of floats from 0 to 1."""
    least, most = values.min(), values.max()
    if values.dtype.kind == "f" and 0 <= least <= most <= 1:
        return np.round(values * 255).astype(np.uint8)
    if values.dtype.kind != "f" and 0 <= least <= most < 2**16:
        return (values >> 8).astype(np.uint8)
    raise ValueError(f"its numbers go from {least:.6g} to {most:.6g}, white is not known; save it with 8 or 16 bits")


def _from_inks(picture: Image.Image, altered: collections.Counter[str]) -> Image.Image:
    """CMYK as RGB, by the picture's own profile if there is one."""
    if profile := picture.info.get("icc_profile"):
        try:
            inks = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            shown = ImageCms.profileToProfile(picture, inks, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if shown is not None:
                return shown
        except (ImageCms.PyCMSError, OSError):
            pass
    altered["CMYK without a usable colour profile, its colours are about right"] += 1
    return picture.convert("RGB")


def _natural(name: str) -> tuple[list[str | int], str]:
    """Sorts frame9 before frame10."""
    parts: list[str | int] = re.split(r"([0-9]+)", name)
    parts[1::2] = map(int, parts[1::2])
    return parts, name
