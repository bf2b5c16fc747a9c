"""A client of ComfyUI's API: upload, queue, progress, fetch, a batch over prompts. It needs aiohttp, as ComfyUI does.

    python client.py workflows/api/swin_long_video_wan.json --prompts prompts.txt --upload photo.png \
        --set sampler.seed=7 --server http://127.0.0.1:8188 --out videos

prompts.txt: one prompt a line, each queued in turn; without it the workflow's own.
"""

import argparse
import asyncio
import json
import uuid
from pathlib import Path

import aiohttp


async def run(session: aiohttp.ClientSession, workflow: dict, out: Path) -> list[Path]:
    """Queues one graph, follows it and fetches its files. RuntimeError with the server's reason where it fails."""
    client = uuid.uuid4().hex
    async with session.ws_connect(f"/ws?clientId={client}", max_msg_size=0) as events:
        async with session.post("/prompt", json={"prompt": workflow, "client_id": client}) as answer:
            if not answer.ok:
                raise RuntimeError(await answer.text())  # names the node and the input
            prompt_id = (await answer.json())["prompt_id"]
        async for message in events:
            if message.type != aiohttp.WSMsgType.TEXT:
                continue  # a preview picture
            event = json.loads(message.data)
            kind, data = event["type"], event["data"]
            if data.get("prompt_id") != prompt_id:
                continue
            if kind == "progress":
                print(f"\r{workflow[data['node']]['_meta']['title']}: {data['value']} of {data['max']}", end="   ")
            elif kind in ("execution_error", "execution_interrupted"):
                raise RuntimeError(f"{data['node_type']}: {data.get('exception_message', 'interrupted')}")
            elif kind == "executing" and data["node"] is None:
                break
    async with session.get(f"/history/{prompt_id}") as answer:
        outputs = (await answer.json())[prompt_id]["outputs"]
    lists = [value for node in outputs.values() for value in node.values() if isinstance(value, list)]
    saved = []
    for file in (entry for entries in lists for entry in entries if isinstance(entry, dict) and "filename" in entry):
        async with session.get("/view", params=file) as answer:
            saved.append(out / file["filename"])
            saved[-1].write_bytes(await answer.read())
    return saved


async def main(options: argparse.Namespace) -> None:
    workflow = json.loads(options.workflow.read_text(encoding="utf-8"))
    for place, _, value in (change.partition("=") for change in options.set):
        node, _, name = place.partition(".")
        kind = type(workflow[node]["inputs"].get(name))
        workflow[node]["inputs"][name] = kind(value) if kind in (int, float) else value
    options.out.mkdir(parents=True, exist_ok=True)
    async with aiohttp.ClientSession(options.server, timeout=aiohttp.ClientTimeout(total=None)) as session:
        for path in options.upload:
            form = aiohttp.FormData({"overwrite": "true"})
            form.add_field("image", path.read_bytes(), filename=path.name)  # any file: videos too
            async with session.post("/upload/image", data=form) as answer:
                answer.raise_for_status()
        prompted = [node["inputs"] for node in workflow.values() if node["_meta"]["title"] == "Prompt"]
        for prompt in options.prompts.read_text(encoding="utf-8").splitlines() if options.prompts else [None]:
            for inputs in prompted if prompt else ():
                inputs["value" if "value" in inputs else "text"] = prompt
            print("", *await run(session, workflow, options.out), sep="\n")


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("workflow", type=Path, help="in API format: a file of workflows/api")
    options.add_argument("--server", default="http://127.0.0.1:8188")
    options.add_argument("--set", action="append", default=[], metavar="NODE.INPUT=VALUE")
    options.add_argument("--upload", action="append", default=[], type=Path, help="an image or video for a Load node")
    options.add_argument("--prompts", type=Path, help='one prompt a line, for the node titled "Prompt"')
    options.add_argument("--out", type=Path, default=Path("videos"))
    return options


if __name__ == "__main__":
    asyncio.run(main(parser().parse_args()))
