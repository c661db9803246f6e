"""Makes a small corpus of real videos in the official MSR-VTT layout, so that everything can be tried without data.

    python -m data_prep.demo --out DIR --clips 900 --seed 0

The clips are synthetic. Pictures, sounds, speech, captions, transcripts and teacher vectors belong together as in the
real corpus, so a model can learn from them. DIR/demo.json records the arguments. The same command run again makes only
what is missing.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from data_prep.commands import shared, transcribe
from data_prep.demo.make import make_corpus
from data_prep.demo.scenes import MIN_CLIPS, RELATED_SHARE
from data_prep.speech import model_names, whisper
from save_jax.data import command_line

ENGINE, LANGUAGE = "faster-whisper", "en"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="save-jax prep demo", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the corpus; new, empty or made by this command"
    )
    parser.add_argument("--clips", type=int, default=900, help=f"at least {MIN_CLIPS}; default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same bytes; default %(default)s")
    parser.add_argument(
        "--no-captions",
        action="store_true",
        help="a plain folder of videos, for VLSA's pre-training: data_prep.build --corpus folder --shares …",
    )
    parser.add_argument(
        "--related",
        type=float,
        default=RELATED_SHARE,
        metavar="SHARE",
        help="of the clips, whose sound belongs to the picture; default %(default)s",
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; default: one per core")
    parser.add_argument(
        "--transcripts",
        choices=("generator", "whisper"),
        default="generator",
        help="what Whisper base once heard of the sentences, or a recogniser itself (default: %(default)s)",
    )
    parser.add_argument(
        "--model",
        default="tiny.en",
        help="the recogniser of --transcripts whisper, as data_prep.transcribe takes it; default %(default)s",
    )
    args = parser.parse_args(command_line.arguments(argv))
    by_whisper = args.transcripts == "whisper"
    try:
        if by_whisper:  # what lacks is said before the clips are made
            whisper.require(ENGINE)
            model = model_names.resolve(ENGINE, shared.weights("--model", args.model))
            whisper.check(ENGINE, model_names.local_folder(ENGINE, model), LANGUAGE)
        captions = not args.no_captions
        make_corpus(args.out, args.clips, args.seed, args.jobs, args.transcripts, captions, args.related)
    except ValueError as error:
        if type(error) is not ValueError:  # PyAV's and json's errors are ValueErrors too, but no fault of the arguments
            raise
        parser.error(str(error))
    if by_whisper:
        whose = ["--corpus", "demo" if captions else "folder", "--root", str(args.out), "--language", LANGUAGE]
        return transcribe.main([*whose, "--engine", ENGINE, "--model", model])
    return 0


if __name__ == "__main__":
    sys.exit(main())
