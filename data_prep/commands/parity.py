"""Are the preparation's numbers the authors'? Compares frame choice, pictures and log-mel with golden files; a command.

    python -m data_prep.parity FILE.npz …

Prints a table (quantity, largest absolute and relative error, tolerance, verdict) for each file and ends with 0 only if
everything holds. A name in a file that this check does not know counts as a failure. The model's part of such files is
checked by `python -m save_jax.parity`.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import kaldi_native_fbank as knf
import numpy as np
from numpy.typing import ArrayLike

from data_prep.media import audio, video
from save_jax.data import command_line, golden

FBANK_TOLERANCE = 3e-3
# Where a bin holds almost no energy, float32 rounding decides its logarithm: the authors' code and kaldi-native-fbank
# were seen 0.03 log units apart there. The normalisation divides log units by 2 · 3.2527153.
EMPTY_BIN, EMPTY_TOLERANCE = np.log(1e-5), 0.05 / 6.5054306
_MEAN, _STD = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])  # CLIP's

Row = tuple[str, float, float, float, str]  # quantity, absolute and relative error, tolerance, verdict


def compare(quantity: str, ours: ArrayLike, theirs: ArrayLike, tolerance: float = 0.0) -> Row:
    """One line of the table. Other shapes and NaN are wrong whatever the tolerance."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        return f"{quantity}: shape {ours.shape}, should be {theirs.shape}", np.inf, np.inf, tolerance, "WRONG"
    error = np.abs(ours - theirs).max(initial=0.0)
    relative = error / max(np.abs(theirs).max(initial=0.0), 1e-30)
    return quantity, error, relative, tolerance, "ok" if error <= tolerance else "WRONG"


def _padded(rows: Sequence[Sequence[int]], length: int) -> np.ndarray:
    out = np.full((len(rows), max([length, *map(len, rows)])), -1)  # a row that is too long shows as another shape
    for row, values in zip(out, rows, strict=True):
        row[: len(values)] = values
    return out


def _indices(fps: float, frame_count: int, per_second: int) -> list[int]:
    """Ours takes one frame a second; the reference's loader can also take more, which no published run does."""
    if per_second == 1:
        return video.frame_indices(fps, frame_count)
    second = max(1, int(fps))
    offsets = [second * k // per_second for k in range(per_second)]
    return [
        start + offset for start in range(0, frame_count, second) for offset in offsets if start + offset < frame_count
    ]


def _kept(count: int, most: int, rule: str) -> list[int]:
    """Ours spreads the frames (`slice2`); the reference's loader also offers the first or the last ones."""
    if rule == "slice0":
        return list(range(count))[:most]
    return list(range(count))[-most:] if rule == "slice1" else video.choose(count, most)


def _frames(arrays: dict[str, np.ndarray], name: str, theirs: np.ndarray) -> Iterator[Row]:
    """Frame choice: `raw_*` one a second, `rate2/…` two, `max12/…` at most twelve of them."""
    rate = re.match(r"rate(\d+)/", name)
    pairs = arrays[f"{rate[0]}pairs" if rate else "pairs"]
    indices = [_indices(fps, int(count), int(rate[1]) if rate else 1) for fps, count in pairs]
    if match := re.fullmatch(r"max(\d+)/(slice\d|mask)", name):
        most = int(match[1])
        positions = [_kept(len(row), most, match[2]) for row in indices]
        if match[2] == "mask":
            yield compare(name, np.arange(most) < np.array([[len(row)] for row in positions]), theirs)
        else:
            kept = [[row[k] for k in chosen] for row, chosen in zip(indices, positions, strict=True)]
            yield compare(name, _padded(kept, theirs.shape[1]), theirs)
    elif name.endswith("raw_count"):
        yield compare(name, [len(row) for row in indices], theirs)
    else:
        yield compare(name, _padded(indices, theirs.shape[1]), theirs)


def _picture(arrays: dict[str, np.ndarray], name: str, theirs: np.ndarray) -> Iterator[Row]:
    """`image_WxH_to_S/…`: resized, cropped, normalised."""
    case, what = name.split("/")
    source, size = arrays[f"{case}/input_uint8_hwc"], int(case.rpartition("_")[2])
    cropped = video.crop_square(source, size)
    if what == "cropped_uint8_hwc":
        yield compare(name, cropped, theirs)
    elif what == "output_chw":
        yield compare(name, ((cropped / 255 - _MEAN) / _STD).transpose(2, 0, 1), theirs, 1e-6)
    elif what == "resized_wh_crop_left_top":
        scaled, corner = video.geometry(source.shape[1], source.shape[0], size)
        yield compare(name, [*scaled, *corner], theirs)


def _sound(arrays: dict[str, np.ndarray], name: str, theirs: np.ndarray) -> Iterator[Row]:
    """`CLIP/…`: AST's input made of a waveform."""
    case, what = name.split("/")
    samples = arrays[f"{case}/wave_int16"].astype(np.float32) / 32768
    if what == "window_shift_samples":
        yield compare(name, audio.window_shift(len(samples)), theirs)
        return
    mel = audio.log_mel(samples)
    if match := re.fullmatch(r"ast_input(?:_every(\d+))?", what):
        mel = mel[:: int(match[1] or 1)]
        empty = theirs * 6.5054306 - 5.118 < EMPTY_BIN
        yield compare(name, np.where(empty, 0, mel), np.where(empty, 0, theirs), FBANK_TOLERANCE)
        rest = np.where(empty, mel, 0), np.where(empty, theirs, 0)
        yield compare(f"{name}, almost empty bins", rest[0], rest[1], EMPTY_TOLERANCE)
    elif what == "frames_before_cut_or_pad":
        padding = np.float32(5.118 / 6.5054306)
        filled = int((mel != padding).any(axis=1).sum())
        yield compare(f"{name}, at most {len(mel)}", filled, min(int(theirs), len(mel)))


def _filters(theirs: np.ndarray) -> np.ndarray:
    options = audio.kaldi_options(1)
    banks = knf.MelBanks(options.mel_opts, options.frame_opts)  # pyright: ignore[reportAttributeAccessIssue]  # not in its stubs
    matrix = np.array(banks.get_matrix())
    return np.pad(matrix, ((0, 0), (0, theirs.shape[1] - matrix.shape[1])))  # Kaldi leaves the Nyquist column out


def rows(arrays: dict[str, np.ndarray]) -> list[Row]:
    """The table of one golden file."""
    table = []
    for name, theirs in arrays.items():
        if re.fullmatch(r"(rate\d+/)?pairs|.*/(input_uint8_hwc|wave_int16)|shift_table/samples", name):
            continue  # what the others are computed from
        if re.fullmatch(r"raw_(index|count)|rate\d+/raw_(index|count)|max\d+/(slice[012]|mask)", name):
            table += _frames(arrays, name, theirs)
        elif re.fullmatch(r"image_\d+x\d+_to_\d+/(cropped_uint8_hwc|output_chw|resized_wh_crop_left_top)", name):
            table += _picture(arrays, name, theirs)
        elif re.fullmatch(r".+/(ast_input(_every\d+)?|window_shift_samples|frames_before_cut_or_pad)", name):
            table += _sound(arrays, name, theirs)
        elif name == "shift_table/window_shift":
            table.append(compare(name, [audio.window_shift(int(n)) for n in arrays["shift_table/samples"]], theirs))
        elif re.fullmatch(r"mel_banks_\d+x\d+", name):
            table.append(compare(name, _filters(theirs), theirs, 1e-4))
        else:
            table.append((name, np.nan, np.nan, np.nan, "UNKNOWN"))
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: 0 if everything holds, 1 if something does not, 2 for files that cannot be read."""
    parser = argparse.ArgumentParser(
        prog="save-jax prep parity", description="Compare the preparation with golden numbers."
    )
    parser.add_argument("files", nargs="+", metavar="FILE.npz")
    failed = 0
    for path in parser.parse_args(command_line.arguments(arguments)).files:
        try:
            table = rows(golden.read(Path(path)))
        except (OSError, EOFError, ValueError, KeyError) as error:
            print(f"error: {path} cannot be used ({error})", file=sys.stderr)
            return 2
        width = max((len(row[0]) for row in table), default=8)
        print(f"\n{path}\n{'quantity':{width}}  {'max abs':>9}  {'max rel':>9}  {'allowed':>9}  verdict")
        for quantity, *numbers, verdict in table:
            print(f"{quantity:{width}}  {'  '.join(f'{x:9.2e}' for x in numbers)}  {verdict}")
        wrong = sum(row[-1] != "ok" for row in table)
        print(f"{len(table) - wrong} of {len(table)} hold" + (f", {wrong} DO NOT" if wrong else ""))
        failed += wrong
    return 1 if failed else 0
