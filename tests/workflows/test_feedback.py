"""What techniques say on their nodes, as it comes over the real server's websocket."""

import asyncio
import struct
import uuid

import aiohttp
import pytest

from semantic_video.cli.stress_cases import WINDOWS, case, fresh

LEFT_ALONE = "Off at these settings: the model is left as it is."
TEXT = 3  # BinaryEventTypes.TEXT: [event, length of the node's id, id, text]


async def heard(server, graph: dict) -> tuple[list[tuple[str, str]], int]:
    """(node id, text) of each text that came for the client who queued the graph, and how many came for another."""
    client, texts, other = uuid.uuid4().hex, [], 0
    async with (
        aiohttp.ClientSession(f"http://{server.address}") as session,
        session.ws_connect(f"/ws?clientId={client}", max_msg_size=0) as events,
        session.ws_connect(f"/ws?clientId={client}x", max_msg_size=0) as others,
    ):
        async with session.post("/prompt", json={"prompt": graph, "client_id": client}) as answer:
            prompt_id = (await answer.json())["prompt_id"]
        async for message in events:
            if message.type == aiohttp.WSMsgType.BINARY:
                event, length = struct.unpack(">II", message.data[:8])
                if event == TEXT:
                    texts.append((message.data[8 : 8 + length].decode(), message.data[8 + length :].decode()))
            elif message.type == aiohttp.WSMsgType.TEXT:
                event = message.json()
                assert event["type"] != "execution_error", event["data"]
                done = event["type"] == "execution_success"
                if done and event["data"]["prompt_id"] == prompt_id:
                    break
        while True:
            try:
                other += (await others.receive(timeout=0.2)).type == aiohttp.WSMsgType.BINARY
            except asyncio.TimeoutError:
                return texts, other


@pytest.mark.parametrize(("strength", "last"), [
    (1.0, "9 latent frames in windows of 4, 0 anchors, time_scale 1.\nActed in all 2 steps, all 4 blocks, all 9 latent "
     "frames."),
    (0.0, LEFT_ALONE),
])  # fmt: skip
def test_the_text_stands_under_the_node_that_applied_the_technique(server, strength, last):
    graph = fresh(case("swin_long_video_wan", 0, swin=WINDOWS["swin"] | {"anchors": "none", "strength": strength}))
    texts, other = asyncio.run(heard(server, graph))
    assert {node for node, _ in texts} == {"swin"} and other == 0
    assert texts[-1][1] == last
