"""The part of run.py report that measures stories: several events in one video, a caption for each span."""

import copy
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from ..miniworld.contact_sheet import grid
from ..miniworld.report import SECONDS, add_ratio
from ..miniworld.report_table import letter, write_table
from ..miniworld.story import Story, joined_caption, render_stories, story_captions
from ..miniworld.story_scores import story_scores
from .media import read_video
from .server import Server, sampling_seconds
from .variants import seeded, show

TIMELINES = {"SemVidPromptTimeline": ("text", "fps")}  # node: its input for the lines of a timeline, and for the fps
SHOWN, COLUMNS = 3, 16  # stories on the contact sheet, and frames of each


@dataclass
class Told:
    """Scores of the truth and of each variant, story by story; films: of the first stories, truth first."""

    truth: list[dict[str, float]] = field(default_factory=list)
    results: list[list[dict[str, float]]] = field(default_factory=list)
    films: list[list[Tensor]] = field(default_factory=list)
    captions: list[list[str]] = field(default_factory=list)


def timeline_text(captions: list[str], borders: list[int], fps: float) -> str:
    """Lines "start-end: caption", in seconds; the last is open. borders: first video frame of each span but the
    first."""
    times = [f"{frame / fps:.4f}".rstrip("0").rstrip(".") for frame in (0, *borders)]
    return "\n".join(f"{a}-{b}: {text}" for a, b, text in zip(times, [*times[1:], ""], captions))


def tell(api: dict, story: Story, number: int, joined: bool, seed: int) -> dict:
    """The workflow with the story in it. A timeline node gets a line for each span; the node titled "Prompt", where
    it is none, all events in one sentence (joined), or the first caption. ValueError where there is neither."""
    api = seeded(copy.deepcopy(api), seed)
    captions = story_captions(story, number)
    said = joined_caption(story, number) if joined else captions[0]
    timelines = [node for node in api.values() if node["class_type"] in TIMELINES]
    prompts = [node for node in api.values() if node["_meta"]["title"] == "Prompt" and node not in timelines]
    if not timelines and not prompts:
        raise ValueError(
            f'no node is titled "Prompt" or of the kind {", ".join(TIMELINES)}; one must take what the story says.'
        )
    for node in timelines:
        lines, fps = TIMELINES[node["class_type"]]
        node["inputs"][lines] = timeline_text(captions, story.borders, float(node["inputs"][fps]))
    for node in prompts:
        node["inputs"]["value" if "value" in node["inputs"] else "text"] = said
    return api


def measure_stories(
    server: Server, workflows: list[tuple[str, dict]], stories: list[Story], seeds: int = 1, joined: bool = False
) -> Told:
    """Variants take turns. Ctrl-C ends it with the stories that are done for all variants, if any are."""
    told = Told(results=[[] for _ in workflows])
    try:
        for number, story in enumerate(tqdm(stories, desc="stories", unit="story")):
            truth = render_stories([story]).frames[0]
            films = [
                [film(server, api, story, number, joined, 1000 * number + i) for i in range(seeds)]
                for _, api in workflows
            ]
            told.truth += [story_scores(truth, story)] * seeds
            for videos, found in zip(told.results, films):
                videos += [story_scores(frames, story) | cost for frames, cost in found]
            if number < SHOWN:
                told.films.append([truth, *(found[0][0] for found in films)])
                told.captions.append(story_captions(story, number))
    except KeyboardInterrupt:
        if not told.truth:
            raise
        print(f"\nInterrupted: the table is over {len(told.truth) // seeds} stories.", flush=True)
    return told


def film(server: Server, api: dict, story: Story, number: int, joined: bool, seed: int) -> tuple[Tensor, dict]:
    """The video, and what sampling it cost."""
    shown = show(api, story.scenes[0], server.base / "input", f"first-{number}")
    saved = server.run(tell(shown, story, number, joined, seed))[0]
    frames = read_video(saved)
    saved.unlink()
    return frames, {SECONDS: seconds} if (seconds := sampling_seconds(server, api)) else {}


def write_stories(told: Told, path: Path, names: list[str], note: str, seeds: int = 1) -> str:
    """The table in path.md, the same in path.json, pictures in path.jpg. Returns the table."""
    add_ratio(told.truth, *told.results)
    text = write_table(told.truth, told.results, path, names, note, seeds)
    sheet(told).save(path.with_suffix(".jpg"), quality=88)
    return text


def sheet(told: Told):
    """The first stories: what each span's caption says under the truth, and under it each variant."""
    clips = [clip for films in told.films for clip in films]
    texts = [
        "truth: " + "; ".join(captions) if i == 0 else letter(i - 1)
        for captions, films in zip(told.captions, told.films)
        for i in range(len(films))
    ]
    return grid(clips, [wrapped(text) for text in texts], columns=COLUMNS, zoom=1.0)


def wrapped(text: str, width: int = 150) -> str:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += word + " "
    return "\n".join(line.strip() for line in lines)
