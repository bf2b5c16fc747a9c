"""run.py bench [NAME] [OPTIONS]: the measurements of benchmarks/ (all, or one), with results in benchmarks/results/."""

import argparse
from importlib import import_module

BENCHMARKS = (
    "swin",
    "swin_memory",
    "video_prompt",
    "ssg_adapter",
    "prompt_timeline",
    "clip_mask",
    "attention_maps",
    "adherence",
    "focal_guidance",
    "families",
    "plan_features",
    "overview",
)


def parser(arguments: list[str]) -> argparse.ArgumentParser:
    """The parser of the benchmark that `arguments` name first, or that of bench itself. Raises ValueError for another
    name."""
    if not arguments or arguments[0].startswith("-"):
        return argparse.ArgumentParser(
            prog="run.py bench",
            usage="run.py bench [NAME] [OPTIONS]",
            description=__doc__,
            epilog=f"NAME is one of {', '.join(BENCHMARKS)}; run.py bench NAME --help lists its options. All need "
            "ComfyUI.",
        )
    if arguments[0] not in BENCHMARKS:
        raise ValueError(f"bench {arguments[0]}: no such benchmark. Choose from {', '.join(BENCHMARKS)}.")
    return benchmark(arguments[0]).parser()


def benchmark(name: str):
    return import_module(f"..benchmarks.{name}", __package__)


def main(arguments: list[str]) -> int:
    options = parser(arguments)
    if arguments and arguments[0] in BENCHMARKS:
        return benchmark(arguments[0]).main(arguments[1:])
    options.parse_args(arguments)
    return max(benchmark(name).main([]) for name in BENCHMARKS)
