"""The part of run.py report that measures stories: several events in one video, a caption for each span."""

import copy
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from ..miniworld.contact_sheet import grid
from ..miniworld.report import SECONDS, add_ratio
from ..miniworld.report_table import letter, write_table
from ..miniworld.story import Story, joined_caption, render_stories, story_captions
from ..miniworld.story_scores import story_scores
from .client import Client, sampling_seconds
from .media import read_video
from .report_log import NO_LOG, Log
from .spread import spread
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
    servers: list[Client],
    workflows: list[tuple[str, dict]],
    stories: list[Story],
    seeds: int = 1,
    joined: bool = False,
    log: Log = NO_LOG,
) -> Told:
    """Variants take turns on one server. Films that are shown are always made anew; the log has scores alone."""

    def film(server: Client, api: dict, story: Story) -> tuple[dict, Tensor]:
        """Scores, with what sampling cost, and the video."""
        saved = server.run(api)[0]
        frames = read_video(saved)
        saved.unlink()
        cost = {SECONDS: seconds} if (seconds := sampling_seconds(server, api)) else {}
        return story_scores(frames, story) | cost, frames

    def story_on(server: Client, number: int) -> tuple[dict, list[list[dict]], list[Tensor]]:
        story = stories[number]
        truth = render_stories([story]).frames[0]
        shown = [show(api, story.scenes[0], server.base / "input", f"first-{number}") for _, api in workflows]
        videos, films = [[] for _ in workflows], [truth]
        for i in range(seeds):
            for api, own in zip(shown, videos):
                filled = tell(api, story, number, joined, 1000 * number + i)
                if number < SHOWN and i == 0:
                    found, frames = film(server, filled, story)
                    films.append(frames)
                else:
                    asked = {"workflow": filled, "story": repr(story)}
                    found = log.get(asked, lambda api=filled: film(server, api, story)[0])
                own.append(found)
        return story_scores(truth, story), videos, films

    told = Told(results=[[] for _ in workflows])
    for number, (truth, videos, films) in enumerate(spread(servers, len(stories), story_on, "story")):
        told.truth += [truth] * seeds
        for own, found in zip(told.results, videos):
            own += found
        if number < SHOWN:
            told.films.append(films)
            told.captions.append(story_captions(stories[number], number))
    return told


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
