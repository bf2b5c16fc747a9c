"""run.py doctor: what this machine and its ComfyUI offer, and a live probe of the hooks that the pack rests on."""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

from .hosts import HOW_TO_GET, find_hosts, name_of

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("checkpoints", "diffusion_models", "text_encoders", "vae", "clip_vision", "model_patches", "loras")


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="run.py doctor", description=__doc__)
    options.add_argument("--probe", type=Path, metavar="HOST", help="one ComfyUI, answered as JSON")
    return options


def main(arguments: list[str]) -> int:
    chosen = parser().parse_args(arguments)
    if chosen.probe:
        print(json.dumps(probe(chosen.probe)))
        return 0
    import torch

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] or ["no GPU"]
    print(
        f"python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} cores, {', '.join(devices)}"
    )
    hosts = find_hosts(ROOT)
    if not hosts:
        print(f"ComfyUI: NOT FOUND. {HOW_TO_GET}")
        return 1
    healthy = True
    for host in hosts:
        print(f"\n{name_of(host)} at {host}")
        answer = subprocess.run(
            [sys.executable, str(ROOT / "run.py"), "doctor", "--probe", str(host)], capture_output=True, text=True
        )
        if answer.returncode:
            print("  does not start here:\n    " + "\n    ".join(answer.stderr.strip().splitlines()[-4:]))
            healthy = False
            continue
        found = json.loads(answer.stdout.splitlines()[-1])
        for line in found["facts"]:
            print(f"  {line}")
        for name, works in found["hooks"].items():
            print(f"  {'yes' if works else 'NO ':3}  {name}")
        healthy &= all(found["hooks"].values())
    return 0 if healthy else 1


def probe(host: Path) -> dict:
    """Runs in a process of its own: facts to print, and for each hook whether a tiny model really called it."""
    import torch

    from ..harness.stand_ins import start_host

    start_host(host, *(["--disable-cuda-malloc"] if torch.cuda.is_available() else ["--cpu"]))
    from tempfile import TemporaryDirectory

    import comfy.ldm.modules.attention as attention
    import comfy.sd
    import folder_paths

    from ..harness.sampling import Shot, sample
    from ..harness.toy import NEWER, STRAIGHT, write_toy
    from ..host.editing import edit_attention

    hooks = {}
    with TemporaryDirectory() as folder, torch.inference_mode():
        for name in (*STRAIGHT, *(name for name in ("h3", "ltxv", "ltxav23") if name in NEWER)):
            model = comfy.sd.load_diffusion_model(str(write_toy(name, Path(folder) / f"{name}.safetensors")))
            sites, patches = set(), set()

            def watch(call, proceed, sites=sites):
                sites.add(call.site.kind)
                return proceed(call)

            def called(hook, result, patches=patches):
                return lambda *args, **kwargs: (patches.add(hook), result(*args))[1]

            shot = Shot(name, steps=1)
            plain, watched = (
                sample(model, shot),
                sample(edit_attention(model, "probe", watch, sites=("self", "text", "image", "joint")), shot),
            )
            wanted = (
                {"joint"}
                if name.startswith(("hunyuan", "h3"))
                else {"self", "text"} | ({"image"} if "clip" in name else set())
            )
            hooks[f"{name}: every attention reached ({', '.join(sorted(wanted))})"] = wanted == sites
            hooks[f"{name}: watching changes no bit"] = torch.equal(plain, watched)
            if name in NEWER:
                continue
            patched = model.clone()
            if name.startswith("wan"):
                patched.set_model_attn1_patch(called("attn1_patch", lambda a: a["x"]))
                patched.set_model_attn2_patch(called("attn2_patch", lambda a: a["x"]))
                patched.set_model_patch(called("double_block", lambda a: a), "double_block")
                expected = {"attn1_patch", "attn2_patch", "double_block"}
            else:
                patched.set_model_attn1_patch(called("attn1_patch", lambda *a: {}))
                patched.set_model_patch(called("attn1_output_patch", lambda a, _: a), "attn1_output_patch")
                expected = {"attn1_patch", "attn1_output_patch"}
            sample(patched, shot)
            hooks[f"{name}: host patches called ({', '.join(sorted(expected))})"] = patches == expected
    backends = getattr(attention, "REGISTERED_ATTENTION_FUNCTIONS", {})
    facts = [f"attention: {attention.optimized_attention.__name__} (available: {', '.join(sorted(backends))})"]
    for kind in FOLDERS:
        paths = [p for p in folder_paths.folder_names_and_paths.get(kind, ([], set()))[0] if os.path.isdir(p)]
        count = sum(not name.startswith("put_") for path in paths for _, _, files in os.walk(path) for name in files)
        facts.append(f"models/{kind}: {count} files in {', '.join(paths) or 'no folder'}")
    return {"facts": facts, "hooks": hooks}
