"""run.py bench [NAME] [OPTIONS]: the measurements of benchmarks/ (all, or one), with results in benchmarks/results/."""

from importlib import import_module

BENCHMARKS = ("swin", "video_prompt", "ssg_adapter", "clip_mask", "focal_guidance")


def main(arguments: list[str]) -> int:
    names = [arguments.pop(0)] if arguments and not arguments[0].startswith("-") else list(BENCHMARKS)
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        raise ValueError(f"bench {', '.join(unknown)}: no such benchmark. Choose from {', '.join(BENCHMARKS)}.")
    return max(import_module(f"semantic_video.benchmarks.{name}").main(arguments) for name in names)
