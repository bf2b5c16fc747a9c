"""Loading a server: prompts queued at once, malformed posts among them, interrupts and cancels at random moments; and
what became of each prompt."""

import asyncio
import time
from dataclasses import dataclass, field
from random import Random

import aiohttp

from .client import SAMPLERS, refusal
from .server import Server
from .stress_cases import FAILS, fresh, malformed

STUCK = 300  # seconds in which nothing may stand still
LONGEST_PAUSE = 0.7  # seconds between two looks at the queue, at most


@dataclass
class Load:
    """What was posted to a server, by prompt id, and what the server was asked to do with it."""

    accepted: dict[str, str] = field(default_factory=dict)  # prompt id -> name of its case
    interrupts: set[str] = field(default_factory=set)
    cancels: set[str] = field(default_factory=set)
    refused: int = 0
    faults: list[str] = field(default_factory=list)
    history: dict[str, dict] = field(default_factory=dict)  # of the accepted ones, where they have one


def load(server: Server, graphs: list[tuple[str, dict]], rng: Random, malformed_posts: int, meddle: int) -> Load:
    """Queues (name, graph) pairs and malformed posts among them, sends at most `meddle` interrupts and as many cancels,
    and waits until the queue is empty."""
    return asyncio.run(_load(server, graphs, rng, malformed_posts, meddle))


async def _load(server: Server, graphs: list[tuple[str, dict]], rng: Random, malformed_posts: int, meddle: int) -> Load:
    done = Load()
    bodies = malformed()
    posts = [(name, {"prompt": fresh(graph)}) for name, graph in graphs]
    for number in range(malformed_posts):
        posts.insert(rng.randint(0, len(posts)), ("", bodies[number % len(bodies)]))
    async with aiohttp.ClientSession(f"http://{server.address}") as session:
        await asyncio.gather(_post_all(session, posts, rng, done), _meddle(session, rng, meddle, len(graphs), done))
        async with session.get("/history") as answer:
            history = await answer.json()
    done.history = {prompt_id: history[prompt_id] for prompt_id in done.accepted if prompt_id in history}
    return done


async def _post_all(session: aiohttp.ClientSession, posts: list, rng: Random, done: Load) -> None:
    for name, body in posts:
        data = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with session.post("/prompt", **data) as answer:
            if name and answer.ok:
                done.accepted[(await answer.json())["prompt_id"]] = name
            elif name:
                done.faults.append(f"{name}: refused, {refusal(await answer.json())}")
            elif answer.ok:
                done.faults.append(f"a malformed post was accepted: {str(body)[:300]}")
            else:
                done.refused += 1
        await asyncio.sleep(rng.uniform(0, 0.05))


async def _meddle(session: aiohttp.ClientSession, rng: Random, most: int, prompts: int, done: Load) -> None:
    """Interrupts what runs and cancels what waits, until all prompts are posted and the queue is empty."""
    seen, since = None, time.monotonic()
    while True:
        await asyncio.sleep(rng.uniform(0.02, LONGEST_PAUSE))
        posted = len(done.accepted) + len(done.faults)
        async with session.get("/queue") as answer:
            queue = await answer.json()
        running, waiting = ([item[1] for item in queue[f"queue_{part}"]] for part in ("running", "pending"))
        if posted >= prompts and not running and not waiting:
            return
        if (running, waiting) != seen:
            seen, since = (running, waiting), time.monotonic()
        if time.monotonic() - since > STUCK:
            done.faults.append(f"the queue has stood still for {STUCK} s with {len(waiting)} waiting")
            return
        if running and len(done.interrupts) < most and rng.random() < 0.4:
            done.interrupts.add(running[0])
            await _told(session, "/interrupt", {"prompt_id": running[0]}, done)
        elif waiting and len(done.cancels) < most and rng.random() < 0.4:
            done.cancels.add(chosen := rng.choice(waiting))
            await _told(session, "/queue", {"delete": [chosen, "no-such-prompt"]}, done)


async def _told(session: aiohttp.ClientSession, path: str, body: dict, done: Load) -> None:
    async with session.post(path, json=body) as answer:
        if not answer.ok:
            done.faults.append(f"{path}: {answer.status}")


def end_of(prompt_id: str, done: Load) -> str:
    """How a prompt ended: done, interrupted, cancelled, failed or lost."""
    entry = done.history.get(prompt_id)
    if entry is None:
        return "cancelled" if prompt_id in done.cancels else "lost"
    if entry["status"]["status_str"] == "success":
        return "done"
    kinds = {kind for kind, _ in entry["status"]["messages"]}
    return "interrupted" if "execution_interrupted" in kinds else "failed"


def judge(done: Load, prompt_id: str, graph: dict, expected: str, digest) -> tuple[str, str]:
    """(how a prompt ended, what is wrong or ""). expected: the digest of its outputs on a quiet server; digest: outputs
    -> digest."""
    end, name = end_of(prompt_id, done), done.accepted[prompt_id]
    messages = done.history[prompt_id]["status"]["messages"] if prompt_id in done.history else []
    if end == "lost":
        return end, f"{name}: lost, neither cancelled nor in the history"
    if end == "interrupted" and prompt_id not in done.interrupts:
        return end, f"{name}: interrupted, and nobody asked"
    if end == "failed":
        said = next((data["exception_message"] for kind, data in messages if kind == "execution_error"), "no reason")
        return end, "" if name == FAILS[0] and FAILS[1] in said else f"{name}: failed, {said.strip()}"
    if end != "done":
        return end, ""
    if name == FAILS[0]:
        return end, f"{name}: it was done"
    cached = {node for kind, data in messages if kind == "execution_cached" for node in data["nodes"]}
    stale = [node for node in graph if node in cached and graph[node]["class_type"] in SAMPLERS]
    if stale:
        return end, f"{name}: {stale[0]} was answered from the cache, so nothing was tried"
    same = digest(done.history[prompt_id]["outputs"]) == expected
    return end, "" if same else f"{name}: not the frames of the quiet server"
