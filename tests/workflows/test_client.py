"""docs/client.py, as people run it, against the real server."""

import asyncio
import importlib.util
import json

import pytest
from PIL import Image

from semantic_video.cli.server import ROOT
from semantic_video.harness.stand_in_models import load_workflow, on_toys


@pytest.fixture(scope="module")
def client():
    spec = importlib.util.spec_from_file_location("client", ROOT / "docs" / "client.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(client, server, *words) -> None:
    asyncio.run(client.main(client.parser().parse_args([*map(str, words), "--server", f"http://{server.address}"])))


def test_a_batch_of_prompts(client, server, tmp_path, capsys):
    graph = tmp_path / "graph.json"
    graph.write_text(json.dumps(on_toys(load_workflow("swin_long_video_wan"), latent={"width": 64, "height": 32})))
    (tmp_path / "prompts.txt").write_text("a red circle\na blue square\n")
    out = tmp_path / "videos"
    call(
        client,
        server,
        graph,
        "--prompts",
        tmp_path / "prompts.txt",
        "--set",
        "latent.length=5",
        "--set",
        "sampler.steps=1",
        "--out",
        out,
    )
    saved = sorted(out.iterdir())
    assert len(saved) == 2, "one video a prompt"
    assert saved[0].read_bytes() != saved[1].read_bytes()
    assert "1 of 1" in capsys.readouterr().out


def test_an_upload(client, server, tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "tiny.png")
    graph = {
        "load": {"class_type": "LoadImage", "_meta": {"title": "Load"}, "inputs": {"image": "tiny.png"}},
        "save": {
            "class_type": "SaveImage",
            "_meta": {"title": "Save"},
            "inputs": {"images": ["load", 0], "filename_prefix": "back"},
        },
    }
    (tmp_path / "graph.json").write_text(json.dumps(graph))
    call(client, server, tmp_path / "graph.json", "--upload", tmp_path / "tiny.png", "--out", tmp_path / "out")
    [back] = (tmp_path / "out").iterdir()
    assert Image.open(back).getpixel((3, 3)) == (255, 0, 0)


def test_a_refusal_says_why(client, server, tmp_path):
    graph = on_toys(load_workflow("swin_long_video_wan"), swin={"window": -1})
    (tmp_path / "graph.json").write_text(json.dumps(graph))
    with pytest.raises(RuntimeError, match="smaller than min"):
        call(client, server, tmp_path / "graph.json", "--out", tmp_path)
