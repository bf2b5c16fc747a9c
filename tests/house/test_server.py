"""What becomes of a ComfyUI server that does not start, ends, or is done; with a stand-in for ComfyUI."""

import os

import pytest

from semantic_video.cli.client import ServerError
from semantic_video.cli.server import Server

ANSWERING = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Answer).serve_forever()
"""


def host(folder, main: str):
    (folder / "comfy").mkdir(parents=True)
    (folder / "main.py").write_text(main)
    return folder


def test_a_host_that_does_not_start_shows_the_end_of_its_log(tmp_path):
    server = Server(host(tmp_path / "ComfyUI", "raise SystemExit('no such card')"), tmp_path / "base", packs=())
    with pytest.raises(ServerError, match=r"ComfyUI did not start\. The end of its log:\n(.|\n)*no such card"), server:
        pass


@pytest.mark.skipif(os.name == "nt", reason="sessions are POSIX")
def test_ctrl_c_does_not_reach_a_server_that_the_command_ends_in_order(tmp_path):
    with Server(host(tmp_path / "ComfyUI", ANSWERING), tmp_path / "base", packs=()) as server:
        assert os.getsid(server.process.pid) != os.getsid(0)
    assert server.process.poll() is not None


def test_a_host_that_ended_is_told_from_a_workflow_that_failed(tmp_path):
    with Server(host(tmp_path / "ComfyUI", ANSWERING), tmp_path / "base", packs=()) as server:
        pass
    with pytest.raises(ServerError, match="ComfyUI went away"):
        server.run({})
