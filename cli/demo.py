"""run.py demo: puts the demo's page together, of pictures that need no ComfyUI and of what a server makes. What it
takes: demo_options.py."""

import shutil
import webbrowser
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor
from tqdm import tqdm

from ..harness import stand_ins
from ..harness.stand_in_models import TOY_NODES, write_toys
from ..kernels.wording import counted
from ..mini import family as mini
from ..miniworld.caption import caption
from ..miniworld.contact_sheet import grid, world_sheet
from ..miniworld.oracle import judge
from .client import WorkflowError
from .demo_options import parser
from .demo_page import Page, card, section
from .demo_shots import Shot, mini_shots, pair_shots, spatial_shots, toy_shots, write_inputs
from .hosts import HOW_TO_GET, CommandError, find_hosts, name_of
from .media import read_video
from .server import ROOT, Server
from .world import DEMO

INTERRUPTED = 130
MINI_NOTE = (
    "Made by models of a few million parameters, trained on MiniWorld and shipped with the pack, through ComfyUI's own "
    "loaders and samplers. Under each clip what the oracle saw in it, from the pixels alone: 1 is as the caption says. "
    "The text-to-video model does not understand where a caption says that things go (relation); an SSG Adapter, "
    "below, shows it."
)
PAIR_NOTE = (
    "Video-As-Prompt with a mini expert: the reference; what the model makes of the target's first frame and a caption "
    "that does not say what to do; and what it makes following the reference. The oracle judges motion or attribute by "
    "what the reference does."
)
SPATIAL_NOTE = (
    "A mini SSG Adapter: CLIP Spatial Mask finds the objects in a picture, Visual Prompt darkens the rest, and the "
    "text-to-video model looks at it. The prompt says where they go, which this video model does not understand; the "
    "picture shows it. Same seed, without and with."
)
TOY_NOTE = (
    "The workflows that ship for your checkpoints, here with tiny random weights, so the pictures are noise. What they "
    "show: the graphs that people post run through a real server, at full length, with the nodes in them."
)
WORLD_NOTE = (
    "The synthetic world in which the pack's claims are measured: every caption is true of its clip. Below what the "
    "pack does in it without any ComfyUI."
)
NO_HOST = f"No ComfyUI was found, so its part of the demo, the videos, did not run. {HOW_TO_GET}"
LOUD, VIDEOS, PICTURES, WORKFLOWS = range(4)  # places on the page


def main(arguments: list[str]) -> int:
    chosen = parser().parse_args(arguments)
    host = next(iter(find_hosts(ROOT)), None) if not chosen.no_host else None
    page = Page(DEMO)
    code = 0
    try:
        draw(page)
        if host:
            code = film(host, page)
        else:
            page.say("Without ComfyUI, as asked: no videos." if chosen.no_host else NO_HOST)
    except KeyboardInterrupt:
        print(f"\n{page.publish_unfinished()}", flush=True)
        return INTERRUPTED
    except CommandError as error:
        print(f"\n{error}", flush=True)
        page.say(str(error))
        code = 1
    if not host and not chosen.no_host:
        print(f"\n{NO_HOST}")
    shown = page.publish()
    print(f"\nLook at {shown}")
    if chosen.open:
        webbrowser.open(shown.as_uri())
    return code


def draw(page: Page) -> None:
    """What needs no ComfyUI."""
    print("Drawing MiniWorld, CLIP's masks and the window plans", flush=True)
    stand_ins.install()  # before open_clip imports torchvision
    from .demo_pictures import write_pictures

    world_sheet().save(page.files / "world.png")
    page.add(section("MiniWorld", WORLD_NOTE, [], "world.png"), PICTURES)
    for one in write_pictures(page.files):
        page.add(one, PICTURES)


def film(host: Path, page: Page) -> int:
    """Runs all shots on one server. Returns 1 where a workflow failed, which the page then says."""
    stand_ins.start_host(host)
    with TemporaryDirectory() as folder:
        base = Path(folder)
        server = Server(host, base, packs=(ROOT, TOY_NODES), modules=(mini.NODES,), arguments=mini.mount(base))
        write_toys(base / "models")
        write_inputs(base / "input")
        groups = [
            ("Videos", MINI_NOTE, mini_shots(), VIDEOS),
            ("Video prompts", PAIR_NOTE, pair_shots(), VIDEOS),
            ("Spatial prompts", SPATIAL_NOTE, spatial_shots(base / "input"), VIDEOS),
            ("Workflows", TOY_NOTE, toy_shots(), WORKFLOWS),
        ]
        print(f"Starting {name_of(host)} from {host}", flush=True)
        with server:
            return max(film_section(server, page, *group) for group in groups if group[2])


def film_section(server: Server, page: Page, heading: str, note: str, shots: list[Shot], place: int) -> int:
    """Adds the section of these shots to the page. Returns 1 where a workflow failed."""
    name, failed = heading.lower().replace(" ", "-"), 0
    clips, texts, cards = [], [], []
    for number, shot in enumerate(shots, 1):
        try:
            saved = run_shot(server, shot)
        except WorkflowError as error:
            print(f"{shot.title}: {error}", flush=True)
            cards.append(card("", shot.title, f"failed: {error}"))
            failed = 1
            continue
        target = page.files / f"{name}-{number}{saved.suffix}"
        shutil.copy(saved, target)
        clips.append(read_video(target))
        said = describe(shot, clips[-1])
        texts.append(f"{shot.title}: {said}")
        cards.append(card(target.name, shot.title, said))
    if clips:
        grid(clips, texts, columns=9).save(page.files / f"{name}.png")
    page.add(section(heading, note, cards, f"{name}.png" if clips else ""), place)
    return failed


def run_shot(server: Server, shot: Shot) -> Path:
    """The file that the server saved; progress in the console."""
    with tqdm(desc=shot.title, unit="step") as bar:

        def progress(node: str, value: int, maximum: int) -> None:
            bar.total, bar.n = maximum, value
            bar.refresh()

        return server.run(shot.api, progress)[0]


def describe(shot: Shot, frames: Tensor) -> str:
    """What the video should show and, where there is a truth, what the oracle saw in it."""
    if not shot.scene:
        return counted(len(frames), "frame")
    truth = caption(shot.scene)
    seen = (f"{name} {value:.2f}" for name, value in judge(frames, truth).items() if name != "adherence")
    return f"{shot.asked or truth}\noracle: {', '.join(seen)}"
