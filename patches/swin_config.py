"""What Swin Renderer is told, and what cannot be."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ..host.schedule import ALWAYS, Interval
from ..kernels.restarts import HIGH, LOW, legs
from ..kernels.swin_renderer import Anchors
from ..kernels.wording import counted

Sound = Literal["whole", "windows"]
Order = Literal["together", "one after another"]


@dataclass(frozen=True)
class SwinRenderer:
    """window, anchor_interval, anchor_budget, look_back: latent frames. window 0: what suits the model and the anchors;
    anchor_interval 0: as dense as the budget allows; anchor_budget 0: the trained length, or twice that where time is
    compressed.

    strength: 1 = windows, 0 = the unpatched model, between = blend of both outputs. dense_blocks: blocks that keep full
    attention, as in "0-3,38". time_scale: places in time are multiplied by it; 1 = as they are, 0 = so that the whole
    video spans the trained length. look_back: frames before a window that it sees; -1 = 1 where windows follow a
    timeline, else none. trained: latent frames of the videos that the model was trained on, 0 = those of its family.

    lead_in, blend: where windows follow a timeline, each goes through the whole model on its own, with `lead_in` frames
    before it whose answer is dropped, and `blend` frames on either side of a border answered by both its windows. 0 and
    0: windows act in the blocks alone. lead_noise: how noisy a lead-in is beside its window, by what the window before
    has answered; 1 = as noisy. lead_guidance: how far noise hides the lead-in from the negative prompt, so that CFG
    guides toward it too; 0 = not at all, 1 = noise alone.

    order: whether windows that go through the model on their own take each step together, or one after another all
    steps, so that a lead-in is finished. restarts: how many times each of those but the first goes back to a high noise
    level. candidates: of how many, each from other noise, each of those keeps the one that goes on best.

    sound: whether a stream of sound beside the video's (LTX-2) is cut as well.
    """

    window: int = 0
    shift: bool = True
    anchors: Anchors = "none"
    anchor_interval: int = 0
    anchor_budget: int = 0
    dense_blocks: str = ""
    strength: float = 1.0
    interval: Interval = ALWAYS
    time_scale: float = 1.0
    look_back: int = -1
    trained: int = 0
    lead_in: int = 0
    blend: int = 0
    lead_noise: float = 0.25
    sound: Sound = "whole"
    order: Order = "together"
    lead_guidance: float = 0.0
    restarts: int = 0
    candidates: int = 1

    def __post_init__(self):
        if self.window < 0:
            raise ValueError(f"window {self.window}: must not be negative; 0 chooses for you.")
        if self.shift and self.window % 2:
            raise ValueError(
                f"window {self.window}: must be even, because odd blocks shift by half a window. Use "
                f"{self.window + 1}, or turn shift off."
            )
        if self.anchors not in Anchors.__args__:
            raise ValueError(f"anchors '{self.anchors}': choose one of {', '.join(Anchors.__args__)}.")
        if self.anchor_interval < 0 or self.anchor_budget < 0:
            raise ValueError(
                f"anchor_interval {self.anchor_interval}, anchor_budget {self.anchor_budget}: must not be negative; 0 "
                "chooses for you."
            )
        if not 0.0 <= self.strength <= 1.0:
            raise ValueError(f"strength {self.strength}: must be from 0 (full attention) to 1 (windows).")
        if not 0.0 <= self.time_scale <= 1.0:
            raise ValueError(
                f"time_scale {self.time_scale}: must be from 0 (automatic) to 1 (places in time as they are)."
            )
        if self.look_back < -1:
            raise ValueError(f"look_back {self.look_back}: must not be negative; -1 chooses for you.")
        if self.sound not in Sound.__args__:
            raise ValueError(f"sound '{self.sound}': choose one of {', '.join(Sound.__args__)}.")
        if self.order not in Order.__args__:
            raise ValueError(f"order '{self.order}': choose one of {', '.join(Order.__args__)}.")
        if self.trained < 0:
            raise ValueError(f"trained {self.trained}: must not be negative; 0 takes the model's family's.")
        if self.lead_in < 0 or self.blend < 0:
            raise ValueError(f"lead_in {self.lead_in}, blend {self.blend}: must not be negative; 0 is none.")
        if not 0.0 <= self.lead_noise <= 1.0:
            raise ValueError(f"lead_noise {self.lead_noise}: must be from 0 (none) to 1 (as noisy as its window).")
        if not 0.0 <= self.lead_guidance <= 1.0:
            raise ValueError(
                f"lead_guidance {self.lead_guidance}: must be from 0 (off) to 1 (hidden from the negative prompt)."
            )
        if self.restarts < 0:
            raise ValueError(f"restarts {self.restarts}: must not be negative; 0 is none.")
        if self.candidates < 1:
            raise ValueError(f"candidates {self.candidates}: must be at least 1, which is no choice.")
        if self.on_their_own:
            self._refuse_what_spans_windows()

    def _refuse_what_spans_windows(self) -> None:
        if self.in_turn and (self.blend or self.interval != ALWAYS):
            raise ValueError(
                f"order '{self.order}': a window is finished before the next begins, so that blend {self.blend}, start "
                f"{self.interval.start} and end {self.interval.end} cannot act. Set them to 0, 0 and 1, or order to "
                "together."
            )
        given = {
            "anchors": self.anchors != "none",
            "look_back": self.look_back > 0,
            "dense_blocks": bool(self.dense_blocks.strip()),
            "strength": 0 < self.strength < 1,
        }
        if names := [name for name, is_given in given.items() if is_given]:
            raise ValueError(
                f"lead_in {self.lead_in}, blend {self.blend}: windows then go through the model one by one, so that "
                f"{' and '.join(names)} cannot act. Set lead_in and blend to 0, or "
                "anchors to none, look_back to -1, dense_blocks to nothing and strength to 1."
            )

    @property
    def on_their_own(self) -> bool:
        """Whether windows that follow a timeline go through the whole model one by one."""
        return self.lead_in > 0 or self.blend > 0

    @property
    def in_turn(self) -> bool:
        return self.on_their_own and self.order == "one after another"

    def remarks(self, timeline: bool, sigmas: Sequence[float]) -> Iterator[str]:
        """What it cannot do, and what it does not do well, in a video with or without a timeline, in a run at such
        noise levels."""
        if self.on_their_own and not timeline:
            yield "lead_in and blend act where windows follow a Prompt Timeline; this video has none"
        if timeline:
            yield self.at_borders
        for name, asked in (("restarts", self.restarts > 0), ("candidates", self.candidates > 1)):
            if asked and not self.in_turn:
                yield f"{name} do nothing without lead_in and order one after another"
        if timeline and self.in_turn and self.restarts and len(legs(sigmas, self.restarts)) == 1:
            yield (
                f"restarts do nothing in these steps, from sigma {sigmas[0]:.3f} to {sigmas[-1]:.3f}: they do not go "
                f"from {HIGH} to {LOW} in two or more"
            )

    @property
    def at_borders(self) -> str:
        """What to expect where a story's windows meet: of 100 stories in MiniWorld (docs/evidence.md)."""
        if self.in_turn:
            return (
                "on a small test model things still jump at more than a third of the borders between events, at three "
                "in ten with candidates 4 and lead_guidance 0.5"
            )
        share = "half" if self.on_their_own else "most"
        return (
            f"on a small test model things jump at {share} of the borders between events; lead_in 2 and order one "
            "after another mend a part of that"
        )

    @property
    def compressed(self) -> bool:
        """Whether long videos stand closer in time than the model places them."""
        return self.time_scale != 1.0


def require_room(window: int, budget: int) -> None:
    """Raises ValueError, before anything is loaded, for a window beside which no anchor fits into the budget."""
    if budget <= (window or 2):
        remedy = f"window to 0 (automatic) or at most {(budget - 1) // 2 * 2}" if budget > 2 else "anchor_budget to 0"
        raise ValueError(
            f"window {window} leaves no room for anchors: both together may span {counted(budget, 'latent frame')} "
            f"(anchor_budget). Set {remedy}, or anchors to none."
        )
