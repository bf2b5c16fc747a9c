"""A report over servers that somebody else started: files go up, videos come back, and the scores are the same."""

import pytest

from semantic_video.cli.client import Remote, ServerError
from semantic_video.cli.report import measure
from semantic_video.cli.variants import variants
from semantic_video.mini import family as mini
from semantic_video.miniworld.report import SECONDS
from semantic_video.miniworld.scene import sample_scenes


def scored(servers):
    path = str(mini.WORKFLOWS / "mini_i2v.json")
    workflows = variants([path, "sampler.steps=1"])
    truth, results = measure(servers, workflows, sample_scenes(2, 31, "heldout"), 1, [])
    return truth, [[{k: v for k, v in row.items() if k != SECONDS} for row in rows] for rows in results]


@pytest.mark.skipif(not mini.has("vae", "clip", "i2v"), reason="the mini I2V is not trained yet")
def test_two_servers_score_as_one(server, tmp_path):
    url = f"http://{server.address}/"
    remotes = [Remote(url, tmp_path / name) for name in ("a", "b")]
    one, two = scored([server]), scored(remotes)
    assert one == two
    assert all(row["first frame"] > 20 for row in one[1][0]), "it starts from the picture that went up"
    assert remotes[0].version() == server.get("/system_stats")["system"]["comfyui_version"]


def test_nothing_answers(tmp_path):
    with pytest.raises(ServerError, match=r"--server 127.0.0.1:9: no ComfyUI answers there"):
        Remote("http://127.0.0.1:9", tmp_path).version()
    with pytest.raises(ServerError, match=r"ComfyUI at 127.0.0.1:9 went away"):
        Remote("http://127.0.0.1:9", tmp_path).run({})
