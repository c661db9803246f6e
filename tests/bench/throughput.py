"""How fast speech is recognised: real-time factor by engine and batch, beside faster-whisper's own batched pipeline.

    python tests/bench/throughput.py --model FOLDER --files GLOB … [--transformers FOLDER]
    python tests/bench/throughput.py --model FOLDER --minutes 20

With --minutes it is one long file of read sentences, music and silence (`tests/helpers/programme.py`). Processor
seconds and wall seconds for the same files, sound decoded once before; voice activity first for all. FOLDER: of
faster-whisper's form; the other in that of transformers (tests/helpers/whisper_conversion.py makes one).
"""

import argparse
import glob
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from helpers import media, programme

from data_prep.media import audio
from data_prep.speech import whisper
from data_prep.speech.cache import Cache, model_identity
from data_prep.speech.recognise import Recognise


def measure(name: str, seconds: float, work: Callable[[], int]) -> None:
    """Prints a row: wall and processor time by the sound's length, and characters heard."""
    begin, processor = time.perf_counter(), time.process_time()
    characters = work()
    wall, used = time.perf_counter() - begin, time.process_time() - processor
    print(f"| {name} | {wall:.1f} | {used:.1f} | {wall / seconds:.3f} | {used / seconds:.3f} | {characters} |")
    sys.stdout.flush()


def ours(engine: str, model: str, files: list[str], batch: int) -> int:
    """The product's own task, from files to text, nothing cached."""
    with tempfile.TemporaryDirectory() as folder:
        task = Recognise(engine, model, model_identity(model), Cache(folder), language="en", batch_size=batch)
        task._engine()  # loading is not measured
        heard = task(files)
        assert isinstance(heard, list)
        return sum(len(segment["text"]) for one in heard for segment in one.get("segments", ()))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--transformers")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--files", nargs="+", help="files or patterns")
    which.add_argument("--minutes", type=float, help="of one long file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.minutes:
            sound, _ = programme.make(60 * args.minutes)
            media.write_media(pathlib.Path(folder) / "long.wav", sound=sound)
            args.files = [f"{folder}/long.wav"]
        compare(sorted(path for pattern in args.files for path in glob.glob(pattern)), args.model, args.transformers)


def compare(files: list[str], model: str, of_transformers: str) -> None:
    sounds = [sound for path in files if (sound := audio.waveform(path)) is not None]
    seconds = sum(map(len, sounds)) / audio.SAMPLE_RATE
    print(f"{len(files)} files, {seconds:.0f} s of sound, {whisper.cores()} cores\n")
    print("| how | wall s | processor s | wall / sound | processor / sound | characters |\n|---|---|---|---|---|---|")
    measure("faster-whisper, save_jax", seconds, lambda: ours("faster-whisper", model, files, 1))

    from faster_whisper import BatchedInferencePipeline, WhisperModel

    for compute in ("int8", "default"):
        peer = WhisperModel(model, device="cpu", compute_type=compute)
        plain = {"language": "en", "beam_size": 1, "vad_filter": True}

        def sequential(peer=peer, plain=plain) -> int:
            return sum(len(s.text) for sound in sounds for s in peer.transcribe(sound, **plain)[0])

        def batched(peer=peer, plain=plain) -> int:
            pipeline = BatchedInferencePipeline(peer)
            return sum(len(s.text) for sound in sounds for s in pipeline.transcribe(sound, batch_size=8, **plain)[0])

        measure(f"faster-whisper alone, {compute}", seconds, sequential)
        measure(f"faster-whisper's batched pipeline, {compute}", seconds, batched)
    for batch in (1, 16) if of_transformers else ():
        measure(
            f"transformers, save_jax, batch {batch}",
            seconds,
            lambda batch=batch: ours("transformers", of_transformers, files, batch),
        )


if __name__ == "__main__":
    main()
