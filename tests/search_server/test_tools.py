"""The tools for a language model's client, as a real client sees them."""

import anyio
import pytest
from mcp import Client

from save_jax.search.server.tools import make_server


def asked(opened, *calls):
    """What each call gives: (is it an error, data or message)."""

    async def talk():
        async with Client(make_server(opened)) as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            assert names == {"search", "along", "library"}
            return [await client.call_tool(name, given) for name, given in calls]

    return [(bool(x.is_error), x.structured_content or x.content[0].text) for x in anyio.run(talk)]


def test_a_client_asks(opened):
    found, along, about, empty = asked(
        opened,
        ("search", {"query": '"the dog"', "top": 3}),
        ("along", {"file": "mine/animals/dog.mp4", "query": "dog"}),
        ("library", {}),
        ("search", {"query": "dog", "folder": "'; --"}),
    )
    assert found[0] is along[0] is about[0] is False
    [hit] = found[1]["hits"]
    assert hit["name"] == "mine/animals/dog.mp4" and hit["quoted"] == "The dog doesn't bark"
    assert along[1]["windows"][0]["start"] == 0 and about[1]["files"] == 2
    assert empty[0] and "known are" in empty[1]


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("search", {}, "no word"),
        ("search", {"query": "a", "mute": ["smell"]}, "can be muted"),
        ("search", {"like": "/etc/passwd"}, "no file of this index"),
        ("along", {"file": "../x", "query": "dog"}, "no file of this index"),
        ("search", {"query": "a", "top": "many"}, ""),
    ],
)
def test_what_is_asked_wrongly_is_said(opened, name, given, message):
    [(wrong, told)] = asked(opened, (name, given))
    assert wrong and message in str(told) and "Traceback" not in str(told)
