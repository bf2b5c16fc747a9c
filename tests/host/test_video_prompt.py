"""Video-As-Prompt against the published class, and in everything a user may put around it."""
import json
import zlib
from pathlib import Path

import comfy.sd
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from semantic_video.host import wan_stream
from semantic_video.kernels.video_prompt import IMAGE, LATENT, TEXT, host_key
from semantic_video.patches import video_prompt
from semantic_video.patches.video_prompt import VideoPrompt, apply
from semantic_video.patches.video_prompt_expert import extract_expert, layers_of, load_expert

GOLDEN = np.load(Path(__file__).resolve().parent.parent / "golden" / "vap.npz")
SEED, KEYS, CASES = int(GOLDEN["seed"]), json.loads(str(GOLDEN["keys"])), json.loads(str(GOLDEN["cases"]))
FP32 = {"dtype": torch.float32}


def drawn(name, shape):
    return torch.from_numpy(np.random.default_rng([SEED, zlib.crc32(name.encode())]).standard_normal(shape, dtype=np.float32))


def weight(name, shape):
    n = drawn(name, shape)
    if "scale_shift_table" in name:
        return 0.3 * n
    if n.ndim == 1:
        return 1 + 0.2 * n if "norm" in name and name.endswith("weight") else 0.2 * n
    return n * 1.5 / np.sqrt(np.prod(shape[1:]))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The golden model as a whole diffusers file."""
    path = tmp_path_factory.mktemp("vap") / "diffusion_pytorch_model.safetensors"
    save_file({name: weight(name, tuple(shape)).contiguous() for name, shape in KEYS.items()}, path)
    return path


@pytest.fixture(scope="module")
def backbone():
    return comfy.sd.load_diffusion_model_state_dict({host_key(n): weight(n, tuple(s)) for n, s in KEYS.items() if "_mot_ref" not in n}, FP32)


@pytest.fixture(scope="module")
def expert(checkpoint):
    return load_expert(checkpoint, FP32)


def inputs(case):
    b, f, h, w, fr, hr, wr = CASES[case]
    text, ref_text = drawn(f"{case}.text", (b, 512, 4096)), drawn(f"{case}.ref_text", (b, 512, 4096))
    text[:, 37:] = 0
    ref_text[:, 61:] = 0
    main = (drawn(f"{case}.hidden_states", (b, 36, f, h, w)), torch.full((b,), 637.0), text, drawn(f"{case}.image", (b, 257, 1280)))
    return main, {LATENT: [drawn(f"{case}.ref", (b, 36, fr, hr, wr))], TEXT: ref_text, IMAGE: drawn(f"{case}.ref_image", (b, 257, 1280))}


def forward(model, case):
    main, reference = inputs(case)
    options = {**model.model_options["transformer_options"], "wrappers": model.wrappers}
    return model.model.diffusion_model(*main, None, options, **reference)


def error(model, case):
    golden = torch.from_numpy(GOLDEN[case])
    return float((forward(model, case) - golden).norm() / golden.norm())


@pytest.mark.parametrize("case", ["same", "resized"])
def test_it_is_the_published_model(backbone, expert, case):
    assert layers_of(expert) == (0, 2, 4)
    assert error(apply(backbone, expert, VideoPrompt()), case) < 5e-5
    assert error(backbone, case) > 0.1, "the reference must matter for this test to mean anything"


@pytest.mark.parametrize("case", ["same", "resized"])
def test_the_known_mistakes_are_caught(backbone, expert, case, monkeypatch):
    patched = apply(backbone, expert, VideoPrompt())
    start = wan_stream.WanStream.__init__
    for shift, least in ((1, 2e-2), (CASES[case][4], 5e-2)):  # positions off by one; positions 0, 1, ...
        with monkeypatch.context() as patch:
            patch.setattr(wan_stream.WanStream, "__init__", lambda self, m, x, t, i, position, *a, by=shift: start(self, m, x, t, i, position + by, *a))
            assert error(patched, case) > least
    monkeypatch.setattr(video_prompt, "TIMESTEP", 0.0)
    assert error(patched, case) > 0.1
