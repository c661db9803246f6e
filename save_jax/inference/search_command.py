"""`save-jax search query RUN "a sentence"`: the videos of a run's test split that a sentence finds."""

import argparse
import sys

from save_jax.data import command_line
from save_jax.inference import runs
from save_jax.training import process


def main() -> None:
    parser = argparse.ArgumentParser(prog="save-jax search", description="Search the videos of a run's test split.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    query = commands.add_parser("query", help="the videos that a sentence ranks first, best first")
    query.add_argument("run", help="folder of a run")
    query.add_argument("sentence")
    query.add_argument("--top", type=int, default=5, help="how many videos (default: %(default)s)")
    query.add_argument("--data-dir", "--data_dir", help="folder of its shards, if they moved")
    arguments = parser.parse_args(command_line.arguments())
    if arguments.top < 1:
        parser.error(f"--top is {arguments.top}; show at least one")
    sentence = command_line.as_text(arguments.sentence)  # typed where letters are ASCII alone
    process.set_up_process()
    try:
        rows = runs.open_run(arguments.run, arguments.data_dir).search(sentence, arguments.top)
    except ValueError as error:
        sys.exit(f"error: {error}")
    for row in rows:
        print(f"{row.score:8.2f}  {row.id}")


if __name__ == "__main__":
    main()
