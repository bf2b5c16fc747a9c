"""The spatial mask workflow on the real server, with the mini CLIP."""

import numpy as np
from PIL import Image, ImageDraw

from semantic_video.harness.stand_in_models import load_workflow


def test_the_mask_follows_the_text(server):
    """A red and a blue square: what is greyed out depends on which is named."""
    picture = Image.new("RGB", (128, 64), "white")
    pen = ImageDraw.Draw(picture)
    pen.rectangle((16, 20, 40, 44), fill=(224, 16, 20))
    pen.rectangle((88, 20, 112, 44), fill=(20, 52, 235))
    picture.save(server.base / "input" / "subject.png")
    results = []
    for text in ("a red square", "a blue square"):
        api = load_workflow("clip_spatial_mask")
        api["clip"]["inputs"]["clip_name"] = "mini_clip.safetensors"
        api["mask"]["inputs"] |= {"text": text, "class_block": -1, "patch_block": -1}
        saved = [path for path in server.run(api) if path.name.startswith("visual_prompt")]
        results.append(np.asarray(Image.open(saved[0]), dtype=float))
    assert all(result.shape == (64, 128, 3) for result in results)
    assert not np.array_equal(*results)
