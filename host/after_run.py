"""What is said after a sampling run of each of its editors: where it acted, or why it did not."""

import logging

from .replaced import around, replaced_blocks
from .run import Run


def say_how_it_went(editors: list, run: Run, module, options: dict) -> None:
    """editors: of `host/editing.py`, one of a name; module: the diffusion model; options: its transformer options."""
    blocks = run.family.blocks(module) if run.family else 0
    missed = around(replaced_blocks(options, len(getattr(module, "double_blocks", ()))), run.blocks)
    for editor in editors:
        if editor.name not in run.feedback.asked:
            run.say_once(*idle(editor, run, missed))
            continue
        run.feedback.summarize(editor.name, len(run.sigmas) - 1, blocks, run.total_frames)
        if missed and editor.sites:
            run.say_once(
                f"{editor.name} did not act everywhere: no attention came by of {missed}. Remove that patch, or "
                "this one.",
                logging.WARNING,
            )


def idle(editor, run: Run, missed: str) -> tuple[str, int]:
    """Text and level of what to say of an editor that was never asked. missed: see `around`."""
    name, sigmas = editor.name, run.sigmas
    widgets = "start, end and min_sigma" if editor.interval.min_sigma else "start and end"
    span = f"this run (sigma {sigmas[0]:.3f} to {sigmas[-1]:.3f})"
    if editor.interval.in_run(sigmas, run.model_sampling):
        return (
            f"{name} did nothing: no {' or '.join(editor.sites)} attention of the model came by. Another patch "
            f"replaces its blocks, their attention or the model{f' ({missed})' if missed else ''}; remove that patch, "
            "or this one."
        ), logging.WARNING
    if editor.interval.in_another_part(sigmas, run.model_sampling):
        return f"{name}: {span} is a part of the schedule that {widgets} leave out; it acts in the other part.", (
            logging.INFO
        )
    return f"{name} did nothing: {widgets} leave out all steps of {span}. Widen them.", logging.WARNING
