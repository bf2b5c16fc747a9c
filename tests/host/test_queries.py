"""Which rows and queries an edit is for: the whole attention, written out, cut by hand."""

from types import SimpleNamespace

import pytest
import torch

from semantic_video.harness.sampling import seeded
from semantic_video.host.call import Call
from semantic_video.patches.queries import for_video, on_positive_rows
from semantic_video.tests.host import naive

QUERIES, KEYS = 9, 7


def a_call(before, after, mask):
    q, k, v = (seeded(2, tokens, 3, 4, seed=seed) for seed, tokens in enumerate((QUERIES, KEYS, KEYS)))
    return Call(q, k, v, mask, site=None, forward=None, before=before, after=after, batch=None)


MASKS = {
    "none": None,
    "of keys": seeded(2, 1, 1, KEYS, seed=3),
    "of queries and keys": seeded(1, 3, QUERIES, KEYS, seed=4),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("before", "after"), [(0, 0), (3, 0), (0, 1), (0, 4), (2, 3), (4, 5)])
def test_only_the_video_takes_the_change(before, after, mask):
    """Each query sees its own row of a mask, whether it is cut out or not."""
    call = a_call(before, after, MASKS[mask])
    changed = call.replace(v=seeded(2, KEYS, 3, 4, seed=5))
    seen = []

    def proceed(one):
        seen.append((one.q.shape[1], one.before, one.after))
        bias = one.mask if one.mask is None else one.mask.expand(-1, -1, one.q.shape[1], -1)
        return naive.attention(one.q, one.k, one.v, bias).flatten(2)

    got = for_video(call, changed, proceed)
    plain, other = (naive.attention(one.q, one.k, one.v, one.mask).flatten(2) for one in (call, changed))
    expected = plain.clone()
    expected[:, before : QUERIES - after] = other[:, before : QUERIES - after]
    torch.testing.assert_close(got, expected)
    whole = [(QUERIES, before, after)]
    cut = [part for part in ((before, before, 0), (after, 0, after)) if part[0]]
    assert seen == (whole if before + after == QUERIES else whole + cut)


def test_a_value_for_rows_that_are_not_negative():
    """Rows 2, 1, 0 of the model's batch, of which the second is of the negative prompt; like q."""
    q = torch.zeros(3, 5, 2, 4, dtype=torch.bfloat16)
    forward = SimpleNamespace(rows=(0, 1, 0, 1))
    call = Call(q, q, q, None, site=None, forward=forward, before=0, after=0, batch=(2, 1, 0))
    values = on_positive_rows(call, 0.75)
    assert values.dtype == torch.bfloat16
    assert torch.equal(values, torch.tensor([0.75, 0.0, 0.75], dtype=torch.bfloat16).view(3, 1, 1))
