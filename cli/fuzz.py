"""run.py fuzz: damaged files for every loader. Each must be loaded whole or refused in an error that names it, in 5 s
and 500 MB."""

import argparse
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from .hosts import require_host

ROOT = Path(__file__).resolve().parent.parent
NAME = "damaged.safetensors"
WORDS = ["<pad>", "red", "ball", "a", "<start>", "<end>"]
CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "layers": 2, "head_width": 8},
    "text_cfg": {"context_length": 8, "width": 16, "heads": 2, "layers": 2, "vocab_size": len(WORDS)},
}
TOWER = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 64, "hidden_act": "gelu"}
HUGGING_FACE = {
    "vision_config": TOWER | {"num_hidden_layers": 2, "image_size": 16, "patch_size": 8},
    "text_config": TOWER | {"num_hidden_layers": 2},
}


@dataclass(frozen=True)
class Subject:
    """A whole file, the text of the config.json beside it or None, and the loader: path -> the module it fills."""

    file: bytes
    load: Callable
    config: str | None = None


def subjects(folder: Path) -> dict[str, Subject]:
    """Every loader with a small whole file. Import after ComfyUI is on sys.path."""
    import torch
    from safetensors.torch import load_file, save_file

    from ..harness.toy import diffusers_expert, write_toy_adapter, write_toy_expert
    from ..harness.toy_plans import write_toy_plan_adapter, write_toy_planner
    from ..host.clip_loading import load_clip
    from ..patches.plan_file import load_compressor, load_plan
    from ..patches.plan_weights import load_plan_adapter, load_planner
    from ..patches.ssg_adapter_file import load_adapter
    from ..patches.video_prompt_expert import load_expert

    def written(tensors: dict, metadata: dict) -> bytes:
        save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "whole.safetensors", metadata)
        return (folder / "whole.safetensors").read_bytes()

    def expert(path: Path):
        return load_expert(path).model.diffusion_model

    def towers(path: Path):
        return load_clip(path).patchers[0].model

    def plan(path: Path):
        tokens = torch.nn.Module()
        tokens.register_buffer("tokens", load_plan(path).tokens)
        return tokens

    extracted = write_toy_expert(folder / "expert.safetensors")
    marked = diffusers_expert(load_file(extracted))
    config = {"config": json.dumps({"transformer": {"num_heads": 2, "text_dim": 32}})}
    backbone = {key.replace("_mot_ref", ""): value.clone() for key, value in marked.items()}
    open_clip, hugging_face = small_clip()
    vocabulary = {"vocabulary": json.dumps(WORDS)}
    return {
        "SSG Adapter": Subject(
            write_toy_adapter(folder / "adapter.safetensors").read_bytes(), lambda path: load_adapter(path).model
        ),
        "expert, extracted": Subject(extracted.read_bytes(), expert),
        "expert, its part of a checkpoint": Subject(written(marked, config), expert),
        "expert, whole checkpoint": Subject(written(backbone | marked, config), expert),
        "plan": Subject(small_plan(folder / "plan.safetensors"), plan),
        "plan compressor": Subject(
            small_compressor(folder / "compressor.safetensors"), lambda path: load_compressor(path)[0].model
        ),
        "plan adapter": Subject(
            write_toy_plan_adapter(folder / "plan_adapter.safetensors").read_bytes(),
            lambda path: load_plan_adapter(path).model,
        ),
        "planner": Subject(
            write_toy_planner(folder / "planner.safetensors").read_bytes(), lambda path: load_planner(path).model
        ),
        "CLIP, open_clip": Subject(written(open_clip, vocabulary | {"open_clip": json.dumps(CLIP)}), towers),
        "CLIP, Hugging Face": Subject(written(hugging_face, vocabulary), towers, json.dumps(HUGGING_FACE)),
    }


def small_plan(path: Path) -> bytes:
    import torch

    from ..kernels.semantic_plan import SemanticPlan
    from ..patches.plan_file import save_plan

    save_plan(SemanticPlan(torch.ones(4, 2, 3, 4), 2.0, "toy"), path)
    return path.read_bytes()


def small_compressor(path: Path) -> bytes:
    from ..harness.toy import randomize
    from ..kernels.compressor import Compressor, CompressorSpec
    from ..patches.plan_file import save_compressor

    compressor = Compressor(CompressorSpec(features=8, encoder="toy", dims=4, width=8, depth=1))
    randomize(compressor.requires_grad_(False))
    save_compressor(compressor, path)
    return path.read_bytes()


def small_clip() -> tuple[dict, dict]:
    """Weights of one CLIP under the names of open_clip and of Hugging Face."""
    import open_clip

    from ..harness.toy import randomize
    from ..host.clip_loading import hugging_face_names

    model = open_clip.CLIP(**CLIP)
    randomize(model)
    weights = {key: value.detach().clone() for key, value in model.state_dict().items() if key != "attn_mask"}
    return weights, hugging_face_names(dict(weights))


def case(subject: Subject, rng: Random, folder: Path, size: int | None = None) -> tuple[str, bool]:
    """One damaged file, judged: (what is wrong or "", whether it was loaded)."""
    from ..harness.damaged_files import damaged, wild_text
    from ..harness.loader_cases import judge

    config = folder / "config.json"
    config.unlink(missing_ok=True)
    if subject.config is not None:
        config.write_text(wild_text(subject.config, rng) if rng.random() < 0.5 else subject.config, encoding="utf-8")
    path = folder / NAME
    path.unlink(missing_ok=True)  # a new file: the old one may still be mapped
    path.write_bytes(damaged(subject.file, rng))
    return judge(subject.load, path, size)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="run.py fuzz", description=__doc__)
    options.add_argument("--cases", type=int, default=9000, help="damaged files, shared among the loaders")
    options.add_argument("--seed", type=int, default=0, help="of the damages")
    return options


def main(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    host = require_host(ROOT)  # the loaders are its
    from tqdm import tqdm

    from ..harness.stand_ins import start_host

    start_host(host)
    import comfy.utils

    from ..harness.loader_cases import memory

    comfy.utils.PROGRESS_BAR_ENABLED = False
    logging.disable(logging.ERROR)
    wrong = []
    with TemporaryDirectory() as folder:
        all_of_them = subjects(Path(folder))
        for subject in all_of_them.values():  # what a first load takes is not a damaged file's
            (Path(folder) / NAME).write_bytes(subject.file)
            subject.load(Path(folder) / NAME)
        size = memory("VmSize")
        for name, subject in all_of_them.items():
            loaded, count = 0, -(-options.cases // len(all_of_them))
            for i in tqdm(range(count), desc=name, mininterval=5):
                reason, whole = case(subject, Random(f"{options.seed}/{name}/{i}"), Path(folder), size)
                loaded += whole
                if reason:
                    wrong.append(f"{name}, case {i}: {reason}")
            print(f"{name}: {count} files, {loaded} loaded, {count - loaded} refused, {len(wrong)} wrong so far")
    print("\n".join(wrong[:40]))
    print(
        f"{len(wrong)} of the damaged files did what none may do." if wrong else "All were loaded or refused by name."
    )
    return 1 if wrong else 0
