"""run.py demo: the shipped workflows through a real ComfyUI server, and a page to look at, in demo/."""
import html
import shutil
import webbrowser
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tqdm import tqdm

from ..miniworld.caption import caption
from ..miniworld.contact_sheet import grid, world_sheet
from ..miniworld.render import render
from ..miniworld.scene import sample_scene
from ..tests.harness.stand_in_models import TOY_NODES, load_workflow, on_toys, write_toys
from ..tests.harness.stand_ins import start_host
from .hosts import find_hosts, version_of
from .media import read_video, write_video
from .server import ROOT, Server

DEMO = ROOT / "demo"
LONG = {"width": 64, "height": 64, "length": 81}  # 21 latent frames
TOY_NOTE = ("Made with tiny random weights, so the pictures are noise. What they show: the graph people post runs through a real server, "
            "at full length, with the node in it. With your checkpoints the same files make real clips.")
NO_HOST = ("No ComfyUI was found, so its part of the demo did not run. Get it with "
           "`git clone https://github.com/Comfy-Org/ComfyUI`, set COMFYUI_PATH to it or put it at ~/ComfyUI, and run `python run.py demo` again.")


@dataclass(frozen=True)
class Shot:
    """A shipped workflow on stand-in models. changes: inputs by node, as in {"swin": {"window": 6}}."""
    title: str
    workflow: str
    changes: dict = field(hash=False)


SHOTS = (
    Shot("Wan, a long clip in windows", "swin_long_video_wan", {"latent": LONG, "swin": {"window": 6}, "sampler": {"steps": 4}}),
    Shot("The same with full attention", "swin_long_video_wan", {"latent": LONG, "swin": {"strength": 0.0}, "sampler": {"steps": 4}}),
    Shot("HunyuanVideo, a long clip in windows", "swin_long_video_hunyuan", {"latent": LONG, "swin": {"window": 6}, "schedule": {"steps": 4}}),
    Shot("A clip of yours, half re-rendered in windows", "swin_video_to_video",
         {"scale": {"width": 64, "height": 64}, "swin": {"window": 6}, "sampler": {"steps": 6, "denoise": 0.5}}),
)


def main(arguments: list[str]) -> int:
    DEMO.mkdir(exist_ok=True)
    for old in (*DEMO.glob("*.mp4"), *DEMO.glob("*.png"), *DEMO.glob("*.html")):
        old.unlink()
    world_sheet().save(DEMO / "world.png")
    hosts = find_hosts(ROOT)
    sections = [film(hosts[0])] if hosts else [f"<p class='loud'>{html.escape(NO_HOST)}</p>"]
    sections.append("<h2>MiniWorld</h2><p>The synthetic world in which the pack's claims are measured: every caption is true of its clip.</p>"
                    "<img src='world.png' alt='captioned scenes of MiniWorld'>")
    (DEMO / "index.html").write_text(PAGE.format(body="\n".join(sections)), encoding="utf-8")
    print(f"\n{'' if hosts else NO_HOST + chr(10)}Look at {DEMO / 'index.html'}")
    if "--open" in arguments:
        webbrowser.open((DEMO / "index.html").as_uri())
    return 0


def film(host: Path) -> str:
    """Runs all shots on one server; returns the page's part about them."""
    start_host(host)
    clips, captions, cards = [], [], []
    with TemporaryDirectory() as folder:
        base = Path(folder)
        server = Server(host, base, packs=(ROOT, TOY_NODES))
        write_toys(base / "models")
        scene = sample_scene(3, objects=2)
        write_video(base / "input" / "clip.mp4", render([scene], 81).frames[0])
        clips.append(render([scene], 81).frames[0])
        captions.append(f"the clip from disk: {caption(scene)}")
        print(f"Starting ComfyUI {'.'.join(map(str, version_of(host)))} from {host}", flush=True)
        with server:
            for number, shot in enumerate(SHOTS, start=1):
                with tqdm(desc=shot.title, unit="step") as bar:
                    def progress(node: str, value: int, maximum: int, bar=bar) -> None:
                        bar.total, bar.n = maximum, value
                        bar.refresh()
                    saved = server.run(on_toys(load_workflow(shot.workflow), **shot.changes), progress)[0]
                target = DEMO / f"{number}-{shot.workflow}{saved.suffix}"
                shutil.copy(saved, target)
                frames = read_video(target)
                clips.append(frames)
                captions.append(f"{shot.title}: {len(frames)} frames, workflows/{shot.workflow}.json")
                cards.append(f"<figure><video src='{target.name}' autoplay loop muted controls></video><figcaption>{html.escape(shot.title)}<br>"
                             f"<code>workflows/{shot.workflow}.json</code>, {len(frames)} frames</figcaption></figure>")
    grid(clips, captions, columns=9).save(DEMO / "contact_sheet.png")
    return (f"<h2>Workflows</h2><p>{html.escape(TOY_NOTE)} ComfyUI {'.'.join(map(str, version_of(host)))}, torch {torch.__version__}.</p>"
            f"<div class='row'>{''.join(cards)}</div><img src='contact_sheet.png' alt='frames of all clips'>")


PAGE = """<!doctype html><meta charset="utf-8"><title>semantic-video demo</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; background: #fafafa }}
.row {{ display: flex; flex-wrap: wrap; gap: 1rem }} figure {{ margin: 0; width: 250px }} figcaption {{ font-size: 14px }}
video {{ width: 250px; image-rendering: pixelated; background: #000 }} img {{ max-width: 100% }} .loud {{ background: #ffe08a; padding: 1rem }}
</style>
<h1>semantic-video</h1>
{body}
"""
