"""The rows of the demo's page that a server films: what is asked for, the graphs with and without a technique, and how
a clip is judged. Each is drawn from the set that a report of benchmarks/results measured, with its prompts and seeds;
demo_choose.py finds which of them is shown."""

from pathlib import Path

from PIL import Image
from torch import Tensor

from ..harness.stand_in_models import load_workflow, on_minis
from ..mini import family as mini
from ..miniworld.caption import caption, object_captions
from ..miniworld.oracle import judge
from ..miniworld.pairs import held_out_pairs, pair_scores
from ..miniworld.render import render
from ..miniworld.scene import TURN, Scene, sample_scenes
from ..miniworld.story import Story, render_stories, sample_stories, story_captions
from ..miniworld.story_scores import story_scores
from .demo_figures import in_comparison, in_table, per_hundred
from .demo_row import Given, Row, Take, Verdict
from .media import write_video
from .report_stories import timeline_text
from .variants import fill, show

LONG, FPS = 93, 12.0  # four times as many frames as the mini models were trained on
SLOWED = {"window": 6, "anchors": "rotating", "anchor_budget": 12, "time_scale": 0.2174}
HALF = 0.5


def said(scores: dict[str, float]) -> Verdict:
    good = scores.get("motion", scores.get("attribute", 0.0)) >= HALF
    return Verdict(good, "does what was asked" if good else "does not do what was asked")


def first_frame(scene: Scene) -> Tensor:
    return render([scene], 1).frames[0]


def save_frame(scene: Scene, path: Path) -> str:
    Image.fromarray((first_frame(scene)[0] * 255).round().byte().numpy()).save(path)
    return path.name


class Layout(Row):
    key, needs, nodes = "layout", ("t2v", "ssg_adapter"), "CLIP Spatial Mask, Visual Prompt, SSG Adapter Apply"
    template = "ssg_t2v_adapter_wan"
    title = "A picture says where things go"
    what = (
        "The prompt says which thing is where, and the model does not understand it. So it is shown a picture in which "
        "the things are found and the rest is darkened; a small add-on lets it look there."
    )
    measured = "things stand where the prompt says (as a share of the video)"
    limit = (
        "The video takes the places from the picture, not its look. The add-on has to be trained once for each model; "
        "beside a model that already knows where things go it gains little."
    )

    def items(self) -> list[Scene]:
        return sample_scenes(200, 1, "heldout", (2,))

    def given(self, number: int, item: Scene) -> list[Given]:
        return [Given("The picture", first_frame(item))]

    def takes(self, number: int, item: Scene, inputs: Path) -> list[Take]:
        changes = {
            "positive": {"text": caption(item, number)},
            "image": {"image": save_frame(item, inputs / f"layout-{number}.png")},
            "mask": {"text": "\n".join(object_captions(item))},
            "sampler": {"seed": 1000 * number},
        }
        plain, shown = (
            on_minis(load_workflow(self.template), apply={"strength": strength}, **changes) for strength in (0.0, 1.0)
        )
        shown["seen"] = {
            "class_type": "SaveImage",
            "_meta": {"title": "What it is shown"},
            "inputs": {"images": ["visual_prompt", 0], "filename_prefix": "seen"},
        }
        a, b = (in_comparison("ssg-adapter", "relation", side) for side in "ab")
        return [Take("Without", plain, a), Take("With", shown, b, ("What the model is shown",))]

    def judge(self, frames: Tensor, number: int, item: Scene) -> Verdict:
        good = judge(frames, caption(item, number))["relation"] >= HALF
        return Verdict(good, "things stand where asked" if good else "things do not stand where asked")


class Heed(Row):
    key, needs, nodes = "heed", ("i2v",), "Text Contrast, Focal Guidance"
    template = "focal_i2v_wan22_lightning"
    title = "A video that follows its prompt"
    what = (
        "A model that starts from a picture likes to keep the picture and forget the prompt. Here what the text says "
        "counts more and its keywords are louder. Nothing is trained, and a step takes hardly longer."
    )
    measured = "the thing does what the prompt says"
    limit = (
        "A little louder helps, much louder breaks things. With a higher CFG, at twice the time, this small model "
        "follows its prompt as well."
    )

    def items(self) -> list[Scene]:
        return sample_scenes(200, 21, "heldout", (1, 2))

    def given(self, number: int, item: Scene) -> list[Given]:
        return [Given("The picture it starts from", first_frame(item))]

    def takes(self, number: int, item: Scene, inputs: Path) -> list[Take]:
        louder = {"contrast": {"strength": 1.0}, "focal": {"strength": 1.0, "keyword_weight": 1.5}}
        graphs = [
            fill(
                show(mini.workflow("mini_adherence", **changes), item, inputs, f"heed-{number}"),
                caption(item, number),
                1000 * number,
            )
            for changes in ({}, louder)
        ]
        a, c = (in_table("adherence-mini-i2v", "motion or attribute", variant) for variant in (0, 2))
        return [Take("Without", graphs[0], a), Take("With", graphs[1], c)]

    def judge(self, frames: Tensor, number: int, item: Scene) -> Verdict:
        return said(judge(frames, caption(item, number)))


class Follow(Row):
    key, needs, nodes = "follow", ("i2v", "vap_expert"), "VAP Expert Loader, VAP Reference, VAP Apply"
    template, unit, main = "vap_video_as_prompt_wan", "pairs", 1
    title = "A video as the prompt"
    what = "Your picture is to do what another video shows. Your own prompt does not say what that is."
    measured = "the thing does what the video shows"
    limit = (
        "Most of it comes through words: where nobody says what happens in the video either, it follows far less often "
        "(the last bar). Shapes melt in this small model once they move, with the technique or without."
    )

    def items(self) -> list[tuple[Scene, Scene]]:
        return held_out_pairs(200)

    def asked(self, number: int, item) -> list[str]:
        return [caption(item[1], motion=False)]

    def given(self, number: int, item) -> list[Given]:
        return [
            Given(f"The video to follow: {caption(item[0])}", render([item[0]]).frames[0]),
            Given("The picture it starts from", first_frame(item[1])),
        ]

    def takes(self, number: int, item, inputs: Path) -> list[Take]:
        reference, target = item
        write_video(inputs / f"follow-{number}.mp4", render([reference]).frames[0])
        changes = {
            "positive": {"text": caption(target, motion=False)},
            "image": {"image": save_frame(target, inputs / f"follow-{number}.png")},
            "load": {"file": f"follow-{number}.mp4"},
            "sampler": {"seed": number},
        }
        plain, told, silent = (
            on_minis(
                load_workflow(self.template),
                apply={"strength": strength},
                reference_prompt={"text": caption(reference, motion=motion)},
                **changes,
            )
            for strength, motion in ((0.0, True), (1.0, True), (1.0, False))
        )
        return [
            Take("Without", plain, in_comparison("video-prompt-pairs", "transfer", "a")),
            Take("With", told, in_comparison("video-prompt-pairs", "transfer", "b")),
            Take(
                "With, and nobody says what happens in the video",
                silent,
                in_comparison("video-prompt-pairs-seen", "transfer", "b"),
            ),
        ]

    def judge(self, frames: Tensor, number: int, item) -> Verdict:
        good = pair_scores(frames, item[1], item[0])["transfer"] >= HALF
        return Verdict(good, "does what the video shows" if good else "does not do what the video shows")


class Long(Row):
    key, needs, nodes, template = "long", ("t2v",), "Swin Renderer", "swin_long_video_wan"
    title = "Four times as long as the model has learned"
    what = (
        "Asked for four times as many frames as it was trained on, a model freezes, loops or starts over. With time "
        "slowed down inside it, and a few frames that all others look at, it tells its one story once."
    )
    measured = "the thing does what the prompt says, in slow motion"
    limit = (
        "This is slow motion: right for one thing that happens once. Where several things are to happen, tell a story, "
        "below. Looking only at frames nearby costs less, and alone does harm."
    )

    def items(self) -> list[Scene]:
        return sample_scenes(40, 11, "heldout", (1,))

    def given(self, number: int, item: Scene) -> list[Given]:
        return [Given("As it should be (drawn)", render([item], LONG, stretch=(LONG - 1) / TURN).frames[0])]

    def takes(self, number: int, item: Scene, inputs: Path) -> list[Take]:
        changes = {
            "positive": {"text": caption(item, number)},
            "latent": {"length": LONG},
            "sampler": {"seed": 1000 * number},
        }
        alone = {"anchors": "none", "time_scale": 1.0}
        score = "motion or attribute, slowed"
        return [
            Take(label, on_minis(load_workflow(self.template), swin=swin, **changes), in_table("long-4x", score, place))
            for label, swin, place in (
                ("Without: every frame looks at all", {"strength": 0.0}, 0),
                ("Frames look only at those nearby", alone, 1),
                ("With: slowed time, nearby frames and a few shared ones", SLOWED, 4),
            )
        ]

    def judge(self, frames: Tensor, number: int, item: Scene) -> Verdict:
        return said(judge(frames, caption(item, number), (LONG - 1) / TURN))


class Tell(Row):
    key, needs, nodes = "tell", ("t2v",), "Prompt Timeline, Swin Renderer"
    template, unit = "story_timeline_wan21", "stories"
    title = "A story, line by line"
    what = (
        "Each line of the prompt has its time. Lines alone change little, because all frames talk to one another; with "
        "frames that look only at their own part of the story, its parts come one after the other."
    )
    measured = "a part of a story comes in its time, as told"
    limit = (
        "The borders are mended in part: the thing goes on where it was at {join} of 100, at the others it jumps."
    ).format(join=per_hundred(in_table("stories-100-in-turn", "join", 1)))

    def items(self) -> list[Story]:
        return sample_stories(100, 12, "heldout", 4)

    def asked(self, number: int, item: Story) -> list[str]:
        return story_captions(item, number)

    def given(self, number: int, item: Story) -> list[Given]:
        return [Given("As it should be (drawn)", render_stories([item]).frames[0])]

    def takes(self, number: int, item: Story, inputs: Path) -> list[Take]:
        lines = timeline_text(story_captions(item, number), item.borders, FPS)
        return [
            Take(
                label,
                on_minis(
                    load_workflow(self.template),
                    timeline={"text": lines, "fps": FPS},
                    swin={"strength": strength},
                    latent={"length": item.frames},
                    sampler={"seed": 1000 * number},
                ),
                in_table(table, "event", place),
            )
            for label, strength, table, place in (
                ("Lines alone (counted on ten others)", 0.0, "stories-4x", 3),
                ("Lines, and frames that look nearby", 1.0, "stories-100-in-turn", 1),
            )
        ]

    def judge(self, frames: Tensor, number: int, item: Story) -> Verdict:
        told = round(4 * story_scores(frames, item)["event"])
        return Verdict(told == len(item.scenes), f"{told} of {len(item.scenes)} parts as told")


ROWS = (Layout(), Heed(), Follow(), Long(), Tell())
