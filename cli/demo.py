"""run.py demo: puts the demo's page together, of pictures that need no ComfyUI and of what a server makes. What it
takes: demo_options.py."""

import webbrowser
from pathlib import Path
from tempfile import TemporaryDirectory

from ..harness import stand_ins
from ..harness.stand_in_models import TOY_NODES, write_toys
from ..mini import family as mini
from .demo_options import parser
from .demo_page import Page
from .demo_shots import write_inputs
from .hosts import HOW_TO_GET, CommandError, find_hosts, name_of, require_host
from .server import ROOT, Server
from .world import DEMO

INTERRUPTED = 130
NO_HOST = f"No ComfyUI was found, so the rows that need one, the videos, were not made. {HOW_TO_GET}"
DECLINED = "Without ComfyUI, as asked: the rows that need one, the videos, were not made."
INTRO, LOUD, MASKS, VIDEOS, WORLD, WORKFLOWS = range(6)  # places on the page


def main(arguments: list[str]) -> int:
    chosen = parser().parse_args(arguments)
    if chosen.choose:
        return choose_anew(require_host(ROOT))
    host = next(iter(find_hosts(ROOT)), None) if not chosen.no_host else None
    page = Page(DEMO)
    code = 0
    try:
        draw(page, f"{name_of(host)} and" if host else "")
        if host:
            code = film(host, page)
        else:
            page.say(DECLINED if chosen.no_host else NO_HOST, LOUD)
    except KeyboardInterrupt:
        print(f"\n{page.publish_unfinished()}", flush=True)
        return INTERRUPTED
    except CommandError as error:
        print(f"\n{error}", flush=True)
        page.say(str(error), LOUD)
        code = 1
    if not host and not chosen.no_host:
        print(f"\n{NO_HOST}")
    shown = page.publish()
    print(f"\nLook at {shown}")
    if chosen.open:
        webbrowser.open(shown.as_uri())
    return code


def draw(page: Page, maker: str) -> None:
    """What needs no ComfyUI."""
    print("Finding what texts name in pictures, and drawing the small world", flush=True)
    stand_ins.install()  # before open_clip imports torchvision
    from .demo_pictures import intro, sections

    page.add(intro(maker), INTRO)
    for one, place in zip(sections(), (MASKS, WORLD)):
        page.add(one, place)


def start(host: Path, base: Path) -> Server:
    """A server, not yet up, with everything in `base` that the graphs load."""
    stand_ins.start_host(host)
    server = Server(host, base, packs=(ROOT, TOY_NODES), modules=(mini.NODES,), arguments=mini.mount(base))
    write_toys(base / "models")
    write_inputs(base / "input")
    print(f"Starting {name_of(host)} from {host}", flush=True)
    return server


def film(host: Path, page: Page) -> int:
    """Makes all rows that need a server, on one. Returns 1 where a workflow failed, which the page then says."""
    with TemporaryDirectory() as folder, start(host, Path(folder)) as server:
        return fill(server, page)


def fill(server: Server, page: Page) -> int:
    from .demo_film import attempt, film_row
    from .demo_measures import Maps, film_drift, film_maps
    from .demo_rows import ROWS
    from .demo_workflows import FAILED, run_all, workflows_row

    done = {}
    for row in ROWS:
        if row.ready():
            done[row.key] = attempt(page, row.title, VIDEOS, lambda row=row: film_row(server, page, row, VIDEOS))
    if Maps().ready():
        done["maps"] = attempt(page, Maps.title, VIDEOS, lambda: film_maps(server, page, VIDEOS) or {})
    if films := done.get("long"):
        done["drift"] = attempt(page, "Drift Report", VIDEOS, lambda: film_drift(server, page, films, VIDEOS) or {})
    print("The other workflows that ship", flush=True)
    said = run_all(server)
    page.add(workflows_row(said), WORKFLOWS)
    return int(None in done.values() or any(text.startswith(FAILED) for text in said.values()))


def choose_anew(host: Path) -> int:
    """Walks through the measured sets and notes which examples the page shows."""
    from .demo_choose import choose, write
    from .demo_measures import Maps
    from .demo_rows import ROWS

    with TemporaryDirectory() as folder, start(host, Path(folder)) as server:
        write({row.key: choose(row, server) for row in (*ROWS, Maps()) if row.ready()})
    return 0
