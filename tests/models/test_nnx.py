"""The lines of docs/api.md that make a Flax NNX module of our Linen model, as they stand there."""

import re

import chex
from helpers.places import REPOSITORY


def test_the_lines_of_the_docs_run():
    text = (REPOSITORY / "docs" / "api.md").read_text()
    first, second, *_ = re.findall(r"```python\n(.*?)```", text[text.index("ToNNX") :], re.DOTALL)
    names = {}
    exec(compile(first, "docs/api.md", "exec"), names)
    exec(compile(second, "docs/api.md", "exec"), names)
    linen, model, params, batch = (names[name] for name in ("linen", "model", "params", "batch"))
    ours = linen.apply({"params": params}, batch)
    theirs = model(batch)
    chex.assert_trees_all_close(ours, theirs, rtol=1e-5, atol=1e-6)
