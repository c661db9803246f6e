"""The command `save-jax card`: a run as a folder for the Hugging Face hub, weights, tokenizer and model card.

    save-jax card runs/demo --license apache-2.0
    hf upload OWNER/NAME runs/demo/card

The folder is one that `load_model` and `config.init_from` take. It is written whole or not at all.
"""

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Sequence

from absl import logging

from save_jax.config.retrieval import start_paths
from save_jax.data import command_line, files
from save_jax.inference import runs
from save_jax.models import trees
from save_jax.report import model_card
from save_jax.report.results_file import RESULTS
from save_jax.weights import description, loading
from save_jax.weights.checkpoint import FOLDER, Checkpoints
from save_jax.weights.command import about_folder

README = "README.md"
LICENSES = "https://huggingface.co/docs/hub/repositories-licenses"


def write_card(
    workdir: str, to: str | None = None, license: str = model_card.OTHER, datasets: Sequence[str] = ()
) -> str:
    """Writes the folder of a run for the Hugging Face hub; returns its path.

    Args:
        workdir: of a run of SAVE, AVIGATE or vision, with its results.json.
        to: the folder, which must be empty or not be there; by default `card` within the run.
        license: of the weights, as the hub names licences. It is for the one who publishes them to say.
        datasets: names on the hub of the data it was trained on.
    Raises:
        ValueError for what is no such run, for one that was not evaluated, or not since its checkpoint changed, and for
        a folder that holds something. Then nothing is written.
    """
    workdir, to = os.path.expanduser(workdir), os.path.expanduser(to or os.path.join(workdir, "card"))
    command_line.check_folder("--to", to, "a card is written")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", license):
        raise ValueError(
            f"--license {license!r} is no name of a licence on the hub, such as apache-2.0; see {LICENSES}"
        )
    config = runs.read_config(workdir, needs_shards=False)
    if config.task != "retrieval":
        raise ValueError(f"{workdir} is a run of {config.task}; load_model, and so a card, knows no VLSA")
    results, step = _results(workdir)
    if os.path.exists(to) and (not os.path.isdir(to) or os.listdir(to)):
        raise ValueError(f"{to} exists already; choose another folder (--to) or delete it")
    licence = license if license != model_card.OTHER else None
    about = about_folder(workdir, licence=licence)
    assert about is not None  # it is a run of retrieval
    params = loading.read_params(os.path.join(workdir, FOLDER, str(step), "params"))
    about.check(params, workdir)
    facts = model_card.Facts(
        name=os.path.basename(os.path.abspath(workdir)),
        config=about.config,
        params_sha256=trees.digest(params),
        license=license,
        starts=_starts(about.config.init_from),
        datasets=datasets,
    )
    try:
        text = model_card.render(results, facts)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{os.path.join(workdir, RESULTS)} lacks {error}; it is of another version: {_evaluate(workdir)}"
        ) from error
    parent = os.path.dirname(os.path.abspath(to))
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".card-", dir=parent) as scratch:
        folder = os.path.join(scratch, "card")  # whose permissions are as of any folder
        os.mkdir(folder)
        loading.save_file(folder, params)
        about.write(params, folder)
        with open(os.path.join(folder, README), "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(folder, to)
    return to


def _evaluate(workdir: str) -> str:
    return f"save-jax eval --config NAME --workdir {workdir}"


def _results(workdir: str) -> tuple[dict, int]:
    """(results.json, the step that it is of), after a look whether that is the checkpoint that would be published."""
    path = os.path.join(workdir, RESULTS)
    if not os.path.exists(path):
        raise ValueError(f"{workdir} has no {RESULTS}, and a card shows what was measured: {_evaluate(workdir)}")
    if not os.path.isdir(os.path.join(workdir, FOLDER)):
        raise ValueError(f"no checkpoint in {workdir}; train first, or give the --workdir of a run")
    try:
        results = files.read_json(path)
        step = int(results["picked_step"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({type(error).__name__}: {error}): {_evaluate(workdir)}") from error
    checkpoints = Checkpoints(workdir, read_only=True)
    try:
        best = checkpoints.whole()
    finally:
        checkpoints.close()
    if best != step:
        raise ValueError(
            f"{path} is of step {step}, and the run's best checkpoint is that of step {best}: {_evaluate(workdir)}"
        )
    return results, step


def _starts(init_from: str) -> dict[str, str]:
    """Weights that a run started from → their licence, in words. Their paths are of one machine; names are enough."""
    starts = {}
    for path in start_paths(init_from):
        name = os.path.basename(os.path.normpath(path))
        if os.path.exists(os.path.join(path, description.NAME)):
            about = description.read(path)
            starts[f"{name}, {about.source}"] = about.licence
        elif os.path.isdir(os.path.join(path, FOLDER)):
            starts[name] = "another run, under the licences of what that one started from"
        else:
            starts[name] = f"not known: no {description.NAME} of it lay here when this card was written"
    return starts


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="save-jax card", description="A run as a folder for the Hugging Face hub, with its model card."
    )
    parser.add_argument("run", help="folder of a run")
    parser.add_argument("--to", metavar="FOLDER", help="what to write (default: card, in the run)")
    parser.add_argument(
        "--license",
        "--licence",
        default=model_card.OTHER,
        help=f"of the weights, as the hub names licences ({LICENSES}); default: other, and the card says that none is "
        "stated",
    )
    parser.add_argument(
        "--dataset",
        action="append",
        default=[],
        metavar="OWNER/NAME",
        help="name on the hub of the data it was trained on; may be given again",
    )
    options = parser.parse_args(command_line.arguments(argv))
    logging.set_verbosity(logging.ERROR)  # Orbax warns of what is intended
    try:
        to = write_card(options.run, options.to, options.license, options.dataset)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(f"{to}: {', '.join(sorted(os.listdir(to)))}\nread {README}, then: hf upload OWNER/NAME {to}")


if __name__ == "__main__":
    main()
