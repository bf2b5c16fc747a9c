"""The mask that needs no ComfyUI is the mask that CLIP Spatial Mask finds."""

import torch

from semantic_video.host.clip_loading import load_clip
from semantic_video.mini import clip, clip_mask
from semantic_video.mini.family import WEIGHTS
from semantic_video.mini.prompted import MASK
from semantic_video.miniworld.caption import object_captions
from semantic_video.miniworld.render import render
from semantic_video.miniworld.scene import sample_scene
from semantic_video.patches.clip_mask import find

FILE = WEIGHTS / "mini_clip.safetensors"


def test_it_equals_the_node_s():
    for seed in (20, 21):
        scene = sample_scene(seed, "heldout", 2)
        frames, phrases = render([scene], 3).frames[0], object_captions(scene)
        ours = clip_mask.find(clip.load(FILE), frames, phrases)
        with torch.inference_mode():
            theirs, _ = find(load_clip(FILE), frames, phrases, MASK)
        assert ours.shape == theirs.shape == (2, 3, 64, 64)
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
