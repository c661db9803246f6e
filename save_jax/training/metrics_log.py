"""metrics.jsonl of a run: one row for each logged step and each validation."""

import json
import os

import jax


def read_rows(path: str) -> list[dict]:
    """The rows of a metrics.jsonl. A last line that a crash cut off is dropped."""
    rows = []
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            for line in file:
                try:
                    rows.append(json.loads(line))
                except ValueError:
                    break
    return rows


class MetricsLog:
    """Appends rows to metrics.jsonl. On a resume it first drops the rows that the resumed run will write again.

    Of several processes only the first one writes.
    """

    def __init__(self, path: str, start_step: int):
        self._file = None
        if jax.process_index():
            return
        rows = [row for row in read_rows(path) if row["step"] <= start_step]
        with open(path + ".tmp", "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        os.replace(path + ".tmp", path)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 — closed by close()

    def write(self, **row: object) -> None:
        if self._file:
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()

    def close(self) -> None:
        if self._file:
            self._file.close()
