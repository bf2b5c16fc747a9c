"""run.py stress: loads one server and judges what became of every prompt. What it takes: stress_options.py."""

import asyncio
import hashlib
import time
from collections import Counter
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import aiohttp

from ..kernels.wording import counted
from .hosts import name_of, require_host
from .server import ROOT, Server
from .stress_cases import ALTERNATED, FAILS, alternated, cases, failing, fresh
from .stress_load import judge, load
from .stress_options import parser

MOST_GROWTH = 0.02  # of RSS after warm-up; the bound
PICTURES = (".png", ".webp")
REST = 3.0  # seconds for a server to collect its garbage
LEAK = "WARNING, memory leak with model"  # of the host, where a MODEL is gone and its weights are still used


def digest(base: Path, outputs: dict) -> str:
    """Of the pixels, latents and texts in a prompt's outputs, as its history lists them. base: the server's folder."""
    total = hashlib.sha256()
    for node, key, entry in listed(outputs):
        if isinstance(entry, dict) and "filename" in entry:
            path = base / entry["type"] / entry["subfolder"] / entry["filename"]
            for part in contents(path):
                total.update(f"{node} {len(part)}".encode() + part)
        else:
            total.update(f"{node} {key} {entry}".encode())
    return total.hexdigest()


def contents(path: Path):
    """The frames of a picture or the tensors of a latent as bytes, without the file's metadata, which hold the graph.
    ValueError for what cannot be compared to the bit."""
    from PIL import Image, ImageSequence
    from safetensors.torch import load_file

    if path.suffix == ".latent":
        for name, tensor in sorted(load_file(path).items()):
            yield name.encode() + tensor.float().contiguous().numpy().tobytes()
        return
    if path.suffix not in PICTURES:
        raise ValueError(f"{path.name}: only latents, {' and '.join(PICTURES)} can be compared to the bit.")
    with Image.open(path) as file:
        for frame in ImageSequence.Iterator(file):
            yield str(frame.size).encode() + frame.convert("RGB").tobytes()


def listed(outputs: dict):
    """(node, key, entry) of all that a prompt put out."""
    for node in sorted(outputs):
        for key, entries in sorted(outputs[node].items()):
            for entry in entries:
                yield node, key, entry


def quiet(server: Server, graph: dict) -> str:
    """The digest of a graph that runs alone."""
    server.run(fresh(graph))
    [entry] = server.get("/history?max_items=1").values()
    return digest(server.base, entry["outputs"])


def rest(server: Server) -> int:
    """RSS of a server in bytes, when it has put away its models and its cache, and forgotten its history: it keeps each
    prompt it was given, up to 10,000."""
    import psutil

    async def free() -> None:
        asked = {"free": {"unload_models": True, "free_memory": True}, "history": {"clear": True}}
        async with aiohttp.ClientSession() as session:
            for route, body in asked.items():
                async with session.post(f"http://{server.address}/{route}", json=body):
                    pass

    asyncio.run(free())
    time.sleep(REST)
    return psutil.Process(server.process.pid).memory_info().rss


def storm(server: Server, graphs: dict[str, dict], expected: dict[str, str], prompts: int, rng: Random):
    """(how many prompts ended how, faults) of a queue of `prompts`, every tenth of which a node refuses."""
    names = [name for _ in range(-(-prompts // len(graphs))) for name in rng.sample(list(graphs), len(graphs))]
    queue = [(name, graphs[name]) for name in names[:prompts]]
    for at in range(9, prompts, 10):
        queue[at] = (FAILS[0], failing())
    done = load(server, queue, rng, malformed_posts=max(2, prompts // 3), meddle=max(2, prompts // 6))
    ends, faults = Counter({"refused posts": done.refused}), list(done.faults)
    for prompt_id, name in done.accepted.items():
        graph = dict(queue)[name]
        end, fault = judge(done, prompt_id, graph, expected.get(name, ""), lambda out: digest(server.base, out))
        ends[end] += 1
        faults += [fault] if fault else []
    return ends, faults


def alternate(server: Server, runs: int, names: tuple[str, ...] = tuple(ALTERNATED)) -> list[str]:
    """Faults of `runs` runs in all, patched and unpatched in turn, each like its first to the bit."""
    faults = []
    for number, name in enumerate(names):
        graphs, firsts = alternated(name), {}
        for run in range(len(range(number, runs, len(names)))):
            patched = run % 2 == 0
            seen = quiet(server, graphs[0 if patched else 1])
            if firsts.setdefault(patched, seen) != seen:
                faults.append(
                    f"{name}, run {run}, {'patched' if patched else 'unpatched'}: not the frames of its first"
                )
        if len(firsts) == 2 and firsts[True] == firsts[False]:
            faults.append(f"{name}: patched and unpatched frames are the same, so the patch did nothing")
    return faults


def warm_up(server: Server, graphs: dict[str, dict]) -> tuple[dict[str, str], list[str]]:
    """(digest of every graph on the quiet server, faults): each runs twice and must not differ."""
    expected = {name: quiet(server, graph) for name, graph in graphs.items()}
    again = {name: quiet(server, graph) for name, graph in graphs.items()}
    return expected, [f"{name}: two quiet runs differ" for name in graphs if expected[name] != again[name]]


def grown(before: int, after: int, what: str) -> tuple[str, list[str]]:
    """(a row of the summary, faults) of RSS in bytes."""
    share = after / before - 1
    row = f"{after / 2**20:.0f} MB {what}, {share:+.2%} over the {before / 2**20:.0f} MB after warm-up"
    return row, [f"memory: {row}; less than {MOST_GROWTH:.0%} is allowed"] if share >= MOST_GROWTH else []


def leaks(log: str) -> list[str]:
    """Faults: what the host says in its log."""
    found = [line for line in log.splitlines() if LEAK in line]
    return [f"memory: the host warned {counted(len(found), 'time')}, first: {found[0].strip()}"] if found else []


def table(rows: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:{width}}  {what}" for name, what in rows)


def run(server: Server, options) -> tuple[list[tuple[str, str]], list[str]]:
    """(rows of the summary, faults)."""
    graphs, rng = cases(), Random(options.seed)
    print(f"Quiet: {len(graphs)} graphs, twice each", flush=True)
    expected, faults = warm_up(server, graphs)
    before = rest(server)
    rows = [("quiet server", f"{len(graphs)} graphs (workflows and seeds), {len(faults)} of them unlike themselves")]
    if options.prompts:
        print(f"Loaded: {options.prompts} prompts", flush=True)
        start = time.monotonic()
        ends, found = storm(server, graphs, expected, options.prompts, rng)
        memory, leaked = grown(before, rest(server), "after them")
        took = f"{time.monotonic() - start - REST:.0f} s"
        rows += [(f"{options.prompts} prompts in {took}", ", ".join(f"{n} {end}" for end, n in sorted(ends.items())))]
        rows += [("memory (RSS)", memory)]
        faults += found + leaked
    if options.alternate:
        print(f"In turn: {options.alternate} runs", flush=True)
        found = alternate(server, options.alternate)
        memory, leaked = grown(before, rest(server), "after them")
        rows += [(f"{options.alternate} runs in turn", f"{len(found)} faults, over {', '.join(ALTERNATED)}")]
        rows += [("memory (RSS)", memory)]
        faults += found + leaked
    return rows, faults + leaks(server.log.read_text(errors="replace"))


def main(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    host = require_host(ROOT)
    from ..harness.stand_in_models import TOY_NODES, write_toys
    from ..harness.stand_ins import start_host
    from ..mini import family as mini

    start_host(host)
    from .demo_shots import write_inputs

    with TemporaryDirectory() as folder:
        base = Path(folder)
        server = Server(host, base, packs=(ROOT, TOY_NODES), modules=(mini.NODES,), arguments=mini.mount(base))
        write_toys(base / "models")
        write_inputs(base / "input")
        print(f"Starting {name_of(host)} from {host}", flush=True)
        with server:
            rows, faults = run(server, options)
    print(table(rows))
    print("\n".join(faults[:40]))
    print(f"{len(faults)} faults." if faults else "Nothing lost, nothing changed, nothing grown.")
    return 1 if faults else 0
