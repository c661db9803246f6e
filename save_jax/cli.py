"""The command `save-jax`: every command of this package by one name. `python -m save_jax.NAME` does the same."""

import runpy
import sys
from collections.abc import Sequence

from save_jax.data import command_line

# Command → (module, arguments that come first, what it does).
COMMANDS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "train": ("save_jax.main", ("--mode=train",), "train, then evaluate: --config NAME --workdir FOLDER"),
    "eval": ("save_jax.main", ("--mode=eval",), "evaluate the checkpoint of a run again"),
    "cache": ("save_jax.main", ("--mode=cache",), "store what frozen towers give, for config.cache"),
    "report": ("save_jax.report", (), "a finished run as one HTML page"),
    "judge": ("save_jax.judge", (), "any model's scores or embeddings: metrics, intervals, a signature, comparisons"),
    "search": ("save_jax.search", (), "your own videos by what is seen, heard and said: index DIR, query, …"),
    "card": ("save_jax.inference.card_command", (), "a folder of a run for the Hugging Face hub, with its model card"),
    "convert": ("save_jax.convert", (), "weights of other code into ours and back; describe a folder of weights"),
    "sweep": ("save_jax.sweep", (), "methods or ablations over several seeds, side by side"),
    "sweep-vlsa": ("save_jax.sweep_vlsa", (), "VLSA's ablation over several seeds"),
    "doctor": ("save_jax.doctor", (), "what this machine and this installation can do, and what to do next"),
    "bench": ("save_jax.bench", (), "measure this installation on this machine"),
    "parity": ("save_jax.parity", (), "compare this installation with stored numbers of the authors' code"),
}
PREPARATION = ("demo", "verify", "transcribe", "teach", "build", "inspect", "parity")  # save-jax prep NAME


def usage() -> str:
    """What there is, one line each."""
    width = max(map(len, COMMANDS)) + 2
    lines = ["usage: save-jax COMMAND [arguments]; save-jax COMMAND --help tells more", ""]
    lines += [f"  {name:{width}}{what}" for name, (_, _, what) in COMMANDS.items()]
    return "\n".join([*lines, f"  {'prep NAME':{width}}media files to shards: {', '.join(PREPARATION)}"])


def resolve(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """(module to run, its arguments). Raises ValueError for a command that does not exist."""
    name, *rest = arguments
    if name == "prep":
        if not rest or rest[0] not in PREPARATION:
            given = f"{rest[0]!r} is none of them" if rest else "one must be named, and --help after it tells more"
            raise ValueError(f"save-jax prep takes one of {', '.join(PREPARATION)}; {given}")
        return f"data_prep.{rest[0]}", rest[1:]
    if name not in COMMANDS:
        raise ValueError(f"save-jax has no command {name!r}\n{usage()}")
    module, first, _ = COMMANDS[name]
    return module, [*first, *rest]


def main() -> None:
    """The console script."""
    command_line.accept_any_letter()
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help", "help"):
        print(usage())
        return
    if sys.argv[1] == "prep" and sys.argv[2:] in (["-h"], ["--help"]):
        print("usage: save-jax prep NAME [arguments]; save-jax prep NAME --help tells more\n")
        print(f"NAME: {', '.join(PREPARATION)}")
        return
    if sys.argv[1] in ("-V", "--version"):
        from save_jax import __version__

        print(f"save_jax {__version__}")
        return
    try:
        module, rest = resolve(sys.argv[1:])
    except ValueError as error:
        sys.exit(f"error: {error}")
    sys.argv = [f"save-jax {sys.argv[1]}", *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
