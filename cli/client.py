"""A ComfyUI server over its HTTP and websocket API, here or elsewhere."""

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import aiohttp

from .hosts import CommandError

SAMPLERS = ("KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced")
Progress = Callable[[str, int, int], None]  # node id, value, maximum


class ServerError(CommandError, RuntimeError):
    """ComfyUI did not come up, or ended; the message holds the end of its log."""


class WorkflowError(CommandError, RuntimeError):
    """ComfyUI refused a workflow or failed in it; the message names the node."""


class Client:
    """`address` (host:port) is asked; what it reads lies in base/input, what it saved in base/output."""

    def __init__(self, address: str, base: Path):
        self.address, self.base = address, base
        self.seconds: dict[str, float] = {}  # of each node that ran in the last run

    def _gone(self, what: str) -> ServerError:
        return ServerError(f"ComfyUI at {self.address} {what}.")

    def get(self, path: str):
        async def ask():
            async with aiohttp.ClientSession() as session, session.get(f"http://{self.address}{path}") as answer:
                answer.raise_for_status()
                return await answer.json()

        return asyncio.run(ask())

    def run(self, prompt: dict, progress: Progress = lambda *_: None) -> list[Path]:
        """Queues a workflow in API format, follows it to its end, returns the files it saved. Raises WorkflowError,
        or ServerError where ComfyUI itself ended."""
        try:
            return asyncio.run(self._run(prompt, progress))
        except aiohttp.ClientError:
            raise self._gone("went away") from None

    async def _run(self, prompt: dict, progress: Progress) -> list[Path]:
        client = uuid.uuid4().hex
        base = f"http://{self.address}"
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{base}/ws?clientId={client}", max_msg_size=0) as events,
        ):
            await self._bring(session)
            async with session.post(f"{base}/prompt", json={"prompt": prompt, "client_id": client}) as answer:
                body = await answer.json()
                if not answer.ok:
                    raise WorkflowError(refusal(body))
            prompt_id = body["prompt_id"]
            self.seconds, node, since = {}, None, time.monotonic()
            async for message in events:
                if message.type != aiohttp.WSMsgType.TEXT:
                    continue
                event = json.loads(message.data)
                kind, data = event["type"], event["data"]
                if data.get("prompt_id") != prompt_id:
                    continue
                if kind == "progress":
                    progress(data["node"], data["value"], data["max"])
                elif kind == "execution_error":
                    raise WorkflowError(f"{data['node_type']} ({data['node_id']}): {data['exception_message'].strip()}")
                elif kind == "execution_interrupted":
                    raise WorkflowError(f"interrupted in {data['node_type']} ({data['node_id']})")
                elif kind == "executing":
                    now = time.monotonic()
                    if node is not None:
                        self.seconds[node] = self.seconds.get(node, 0.0) + now - since
                    node, since = data["node"], now
                    if node is None:  # after the history is written
                        break
            else:
                raise self._gone("went away")
            async with session.get(f"{base}/history/{prompt_id}") as answer:
                outputs = (await answer.json())[prompt_id]["outputs"]
            lists = [value for node in outputs.values() for value in node.values() if isinstance(value, list)]
            files = [entry for entries in lists for entry in entries if isinstance(entry, dict) and "filename" in entry]
            return [await self._saved(session, file) for file in files]

    async def _bring(self, session: aiohttp.ClientSession) -> None:
        """Makes the server see what lies in base/input."""

    async def _saved(self, session: aiohttp.ClientSession, file: dict[str, str]) -> Path:
        """Where a file that a workflow saved lies here."""
        return self.base / file["type"] / file["subfolder"] / file["filename"]


class Remote(Client):
    """A server that somebody else started: `url` as in http://127.0.0.1:8188. Files of base/input go to it before a
    workflow does, and what it saved is fetched. Raises ServerError where nothing answers."""

    def __init__(self, url: str, base: Path):
        super().__init__(url.removeprefix("http://").rstrip("/"), base)
        self.brought: dict[Path, int] = {}  # file of base/input -> when it was last written, as the server has it
        for folder in ("input", "output", "temp"):
            (base / folder).mkdir(parents=True, exist_ok=True)

    def version(self) -> str:
        """Of its ComfyUI, as in 0.33.0."""
        try:
            return self.get("/system_stats")["system"]["comfyui_version"]
        except (aiohttp.ClientError, KeyError, ValueError) as error:
            raise ServerError(f"--server {self.address}: no ComfyUI answers there ({error}).") from None

    async def _bring(self, session: aiohttp.ClientSession) -> None:
        for path in sorted((self.base / "input").iterdir()):
            written = path.stat().st_mtime_ns
            if self.brought.get(path) == written:
                continue
            form = aiohttp.FormData({"overwrite": "true"})
            form.add_field("image", path.read_bytes(), filename=path.name)
            async with session.post(f"http://{self.address}/upload/image", data=form) as answer:
                answer.raise_for_status()
            self.brought[path] = written

    async def _saved(self, session: aiohttp.ClientSession, file: dict[str, str]) -> Path:
        path = await super()._saved(session, file)
        path.parent.mkdir(parents=True, exist_ok=True)
        wanted = {name: file[name] for name in ("filename", "subfolder", "type")}
        async with session.get(f"http://{self.address}/view", params=wanted) as answer:
            answer.raise_for_status()
            path.write_bytes(await answer.read())
        return path


def sampling_seconds(server: Client, api: dict) -> float:
    """How long the samplers of a workflow took in the last run. A sampler that ComfyUI had cached took nothing."""
    return sum(server.seconds.get(name, 0.0) for name, node in api.items() if node["class_type"] in SAMPLERS)


def refusal(body: dict) -> str:
    """ComfyUI's answer to a workflow it does not accept, in one line per fault."""
    faults = [
        f"{node['class_type']} ({node_id}): {error['message']}, {error['details']}"
        for node_id, node in body.get("node_errors", {}).items()
        for error in node["errors"]
    ]
    return "\n".join(faults) or body.get("error", {}).get("message", "refused without a reason")
