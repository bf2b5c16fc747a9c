"""run.py report: measures workflow variants on a server, scores the clips and writes the comparison. What it takes:
report_options.py."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from ..mini import family as mini
from ..miniworld.caption import caption
from ..miniworld.guards import dynamic_degree, identity_drift, loop_score, seam_strength
from ..miniworld.oracle import judge
from ..miniworld.pairs import first_frame
from ..miniworld.render import render
from ..miniworld.report import SECONDS, add_ratio, as_json, compare, interval, markdown, middle, plot
from ..miniworld.report_table import total, write_table
from ..miniworld.scene import NOMINAL_FRAMES, TURN, Scene, sample_scenes
from ..miniworld.story import sample_stories
from .client import Client, Remote, sampling_seconds
from .hosts import name_of, require_host
from .media import read_video
from .report_log import LOG, NO_LOG, Log, code_version
from .report_options import parser
from .report_pairs import measure_pairs, write_pairs
from .report_stories import measure_stories, write_stories
from .server import ROOT, Server
from .spread import spread
from .variants import fill, show, variants

SLOWED = "motion or attribute, slowed"
RESULTS = ROOT / "benchmarks" / "results"


def scores(frames: torch.Tensor, text: str, borders: list[int]) -> dict[str, float]:
    """The oracle's scores and the guards of one video. motion or attribute: the one of both that the caption names;
    SLOWED, of a long video: the same where a circle or blinking may take as many times as long as the video is."""
    guards = {
        "dynamic degree": dynamic_degree(frames),
        "loop": loop_score(frames),
        "identity drift": identity_drift(frames),
    }
    judged = judge(frames, text)
    said = said_score(judged)
    either = {} if said is None else {"motion or attribute": said}
    if said is not None and len(frames) > NOMINAL_FRAMES:
        either[SLOWED] = said_score(judge(frames, text, stretch_of(len(frames))))
    return judged | either | guards | ({"seam": seam_strength(frames, borders)} if borders else {})


def said_score(judged: dict[str, float]) -> float | None:
    return judged.get("motion", judged.get("attribute"))


def stretch_of(frames: int) -> float:
    """How many times as long a path takes in a video of so many frames."""
    return (frames - 1) / TURN


def truth_scores(scene: Scene, text: str, frames: int, borders: list[int]) -> dict[str, float]:
    """Those of the rendered scene; SLOWED of one that is slowed down in all it does."""
    found = scores(render([scene], frames).frames[0], text, borders)
    if SLOWED in found:
        slow = render([scene], frames, stretch=stretch_of(frames)).frames[0]
        found[SLOWED] = said_score(judge(slow, text, stretch_of(frames)))
    return found


def measure(
    servers: list[Client],
    workflows: list[tuple[str, dict]],
    scenes: list[Scene],
    seeds: int,
    borders: list[int],
    relation: bool = True,
    log: Log = NO_LOG,
) -> tuple[list[dict], list[list[dict]]]:
    """Scores of the rendered scenes, which a perfect model would get, and for each workflow those of its videos, all in
    one order. Variants take turns on one server, so that nothing but the variant differs. relation: whether the prompt
    says where two objects are to each other; it is scored in any case."""

    def film(server: Client, api: dict, scene: Scene, text: str) -> dict:
        saved = server.run(api)[0]
        frames = read_video(saved)
        saved.unlink()
        found = scores(frames, text, [b for b in borders if b < len(frames)])
        if seconds := sampling_seconds(server, api):
            found[SECONDS] = seconds
        if any("start_image" in node["inputs"] for node in api.values()):
            found["first frame"] = first_frame(frames, scene)
        return {"scores": found, "frames": len(frames)}

    def caption_on(server: Client, number: int) -> tuple[list[dict], list[list[dict]]]:
        scene = scenes[number]
        text = caption(scene, number)
        prompt = text if relation else caption(scene, number, relation=False)
        shown = [show(api, scene, server.base / "input", f"first-{number}") for _, api in workflows]
        truth, videos = [], [[] for _ in workflows]
        for seed in range(seeds):
            for api, own in zip(shown, videos):
                filled = fill(api, prompt, 1000 * number + seed)
                asked = {"workflow": filled, "scene": repr(scene), "borders": borders, "text": text}
                found = log.get(asked, partial(film, server, filled, scene, text))
                own.append(found["scores"])
            frames = found["frames"]
            truth.append(truth_scores(scene, text, frames, [b for b in borders if b < frames]))
        return truth, videos

    measured = spread(servers, len(scenes), caption_on, "caption")
    truth = [row for rows, _ in measured for row in rows]
    return truth, [[row for _, videos in measured for row in videos[i]] for i in range(len(workflows))]


def write_scores(
    clips: list[dict[str, float]], path: Path, workflow: str, note: str, truth: list[dict[str, float]] = ()
) -> str:
    """Writes the table of one variant's scores beside `path`, as Markdown and JSON, and returns it."""
    names = dict.fromkeys(name for clip in clips for name in clip)
    values = {name: torch.tensor([clip[name] for clip in clips if name in clip]) for name in names}
    rows = [
        (name, float(middle(v, name)), *interval(v, name=name), len(v), total(name, truth))
        for name, v in values.items()
    ]
    text = (
        "\n".join(
            [
                f"# {path.name}",
                "",
                workflow,
                "",
                note,
                "",
                "| score | truth | mean | 95 % interval | clips |",
                "| --- | ---: | ---: | --- | ---: |",
                *(
                    f"| {n} | {'-' if t is None else f'{t:.3f}'} | {m:.3f} | {low:.3f} .. {high:.3f} | {count} |"
                    for n, m, low, high, count, t in rows
                ),
            ]
        )
        + "\n"
    )
    records = [dict(zip(("score", "mean", "low", "high", "clips", "truth"), row)) for row in rows]
    path.with_suffix(".json").write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    return text


def write_comparison(
    a: list[dict[str, float]],
    b: list[dict[str, float]],
    path: Path,
    names: tuple[str, str],
    note: str,
    truth: list[dict[str, float]] | None = None,
    seeds: int = 1,
) -> str:
    """Writes the paired comparison of two variants beside `path`, as Markdown, JSON and PNG, and returns the table."""
    rows = compare(a, b, truth, seeds)
    text = markdown(rows, path.name, *names, note)
    path.with_suffix(".json").write_text(json.dumps(as_json(rows), indent=1) + "\n", encoding="utf-8")
    plot(rows, path.with_suffix(".png"), path.name)
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    return text


def tell_stories(servers: list[Client], workflows: list[tuple[str, dict]], chosen, path: Path, version: str, log: Log):
    stories = sample_stories(chosen.stories, chosen.scenes_seed, "heldout", chosen.events)
    told = measure_stories(servers, workflows, stories, chosen.seeds, chosen.joined, log)
    asked = "all events in one sentence" if chosen.joined else "the first caption"
    note = (
        f"{len(told.truth) // chosen.seeds} held-out stories (--scenes-seed {chosen.scenes_seed}) of {chosen.events} "
        f"events, {stories[0].frames} frames, {chosen.seeds} seed(s) each, {version}. A workflow without a timeline is "
        f"asked for {asked}."
    )
    return write_stories(told, path, [name for name, _ in workflows], note, chosen.seeds)


@contextmanager
def servers_of(chosen) -> Iterator[tuple[list[Client], str]]:
    """Those of --server, or one that is started for the time being; and which ComfyUI they are. ValueError where they
    are not the same one."""
    with TemporaryDirectory() as folder:
        base = Path(folder)
        if not chosen.server:
            host = require_host(ROOT)
            with Server(host, base, modules=(mini.NODES,), arguments=mini.mount(base)) as server:
                yield [server], name_of(host)
            return
        servers = [Remote(url, base / str(number)) for number, url in enumerate(chosen.server)]
        versions = {server.address: server.version() for server in servers}
        if len(set(versions.values())) > 1:
            told = ", ".join(f"{address} is {version}" for address, version in versions.items())
            raise ValueError(f"--server: {told}; the results of one report come from one version of ComfyUI.")
        yield servers, f"ComfyUI {versions[servers[0].address]}"


def main(arguments: list[str]) -> int:
    chosen = parser().parse_args(arguments)
    workflows = variants(chosen.words)
    if chosen.pairs and len(workflows) != 2:
        raise ValueError(f"--pairs: {len(workflows)} workflow(s); give two, the second following its reference.")
    outputs = 1 if chosen.table or chosen.stories else max(len(workflows) - 1, 1)
    if len(chosen.out) != outputs:
        raise ValueError(f"--out: {len(chosen.out)} name(s) for {len(workflows)} workflow(s); give {outputs}.")
    RESULTS.mkdir(exist_ok=True)
    paths = [RESULTS / name for name in chosen.out]
    with servers_of(chosen) as (servers, version):
        log = Log(LOG, f"{version} {code_version()}", chosen.fresh)
        if chosen.pairs:
            scores = measure_pairs(servers[0], workflows, chosen.pairs, chosen.seen)
            print(write_pairs(scores, paths[0], workflows, version, chosen.seen))
            return 0
        if chosen.stories:
            print(tell_stories(servers, workflows, chosen, paths[0], version, log))
            return 0
        scenes = sample_scenes(chosen.captions, seed=chosen.scenes_seed, split="heldout", objects=chosen.objects)
        truth, results = measure(servers, workflows, scenes, chosen.seeds, chosen.borders, not chosen.unplaced, log)
    unsaid = " The prompts do not say where the objects are to each other." if chosen.unplaced else ""
    note = (
        f"{len(truth) // chosen.seeds} held-out captions (--scenes-seed {chosen.scenes_seed}), "
        f"{chosen.seeds} seed(s) each, {version}.{unsaid}"
    )
    if log.taken:
        print(f"{log.taken} videos were scored before ({LOG}); --fresh makes them again.")
    shown = [name for name, _ in workflows]
    add_ratio(truth, *results)
    if chosen.table:
        print(write_table(truth, results, paths[0], shown, note, chosen.seeds))
        return 0
    if len(workflows) == 1:
        print(write_scores(results[0], paths[0], shown[0], note, truth))
    for path, name, clips in zip(paths, shown[:-1], results):
        print(write_comparison(clips, results[-1], path, (name, shown[-1]), note, truth, chosen.seeds))
    return 0
