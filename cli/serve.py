"""run.py serve: a ComfyUI with this pack and the mini models. What it takes: serve_options.py."""

from pathlib import Path
from tempfile import TemporaryDirectory

from ..mini import family as mini
from .hosts import name_of, require_host
from .serve_options import parser
from .server import ROOT, Server


def main(arguments: list[str]) -> int:
    chosen = parser().parse_args(arguments)
    host = require_host(ROOT)
    with TemporaryDirectory() as folder:
        base = Path(folder)
        listen = ("--listen", chosen.listen)
        with Server(host, base, modules=(mini.NODES,), arguments=(*mini.mount(base), *listen)) as server:
            print(f"{name_of(host)} at http://{server.address}, until Ctrl-C", flush=True)
            server.process.wait()
    return 1  # it ended by itself
