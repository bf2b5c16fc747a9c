"""A Plan Adapter and a Semantic Planner from one's own clips on the command line."""

import pytest

from semantic_video.cli.train_options import main
from semantic_video.patches.plan_weights import load_plan_adapter, load_planner
from semantic_video.tests.host.test_own_adapter import facts_of, flags  # noqa: F401  a fixture

SHAPE = {"size": ["48", "32"], "length": ["5"], "fps": ["16"], "plan-fps": ["6.4"], "steps": ["2"], "batch": ["2"]}


def run(model, given):
    words = (str(word) for name, words in given.items() for word in (f"--{name}", *words))
    return main([model, *words])


def test_adapter_then_planner(flags):  # noqa: F811
    places = {name: flags[name] for name in ("clips", "text-encoder", "clip", "out", "cache")}
    models = {name: flags[name] for name in ("backbone", "vae")}
    run("plan-adapter", places | models | SHAPE | {"blocks": ["1-2"], "rank": ["4"]})
    out = flags["out"][0]
    adapter, facts = load_plan_adapter(out / "plan_adapter.safetensors"), facts_of(out / "plan_adapter.safetensors")
    assert (adapter.model.spec.blocks, adapter.model.spec.rank, adapter.model.spec.dims) == ((1, 2), 4, 8)
    assert facts["backbone"] == "toy_wan.safetensors" and facts["videos"] == 3 and facts["steps"] == 2
    with pytest.raises(ValueError, match="--out .*mine: holds plan_adapter.safetensors already. Name another folder"):
        run("plan-adapter", places | models | SHAPE)
    compressor = {"compressor": [out / "plan_adapter_compressor.safetensors"]}
    small = {"channels": ["24"], "heads": ["2"], "depth": ["1"]}
    run("planner", places | compressor | SHAPE | small)
    planner = load_planner(out / "planner.safetensors")
    assert planner.model.spec.encoder == adapter.model.spec.encoder, "the adapter takes the planner's plans"
    assert facts_of(out / "planner.safetensors")["compressor"] == "plan_adapter_compressor.safetensors"
    next(flags["cache"][0].glob("planner*.safetensors")).unlink()
    with pytest.raises(ValueError, match="resume: there is no checkpoint .*would write over planner.safetensors"):
        run("planner", places | compressor | SHAPE | small | {"resume": []})
    (out / "plan_adapter.safetensors").unlink()
    with pytest.raises(ValueError, match="holds plan_adapter_compressor.safetensors already"):
        run("plan-adapter", places | models | SHAPE)


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        ("plan-adapter", {"backbone": None}, "--clips: also give --backbone"),
        ("planner", {}, "--clips: also give --compressor"),
        ("plan-adapter", {"clip": None}, "--tower, --clip-vision, --clip: 0 of them given. Give one"),
        ("plan-adapter", {"clip-vision": ["x"]}, "--tower, --clip-vision, --clip: 2 of them given. Give one"),
        ("plan-adapter", {"clip": ["/no/such"]}, "--clip /no/such: no such file"),
        ("plan-adapter", {"length": ["6"]}, "--size, --length, --fps: length 6: must be 4 n"),
        ("plan-adapter", {"fps": ["0"]}, "--size, --length, --fps: fps 0.0: must be above 0"),
        ("plan-adapter", {"clips": ["/no/such"]}, "--clips: folder '/no/such': no such folder"),
        ("planner", {"rank": ["4"], "compressor": ["x"]}, "no such file|--rank: is for ssg-adapter and plan-adapter"),
    ],
)
def test_flags_that_do_not_fit(flags, model, changes, message):  # noqa: F811
    names = ("clips", "text-encoder", "clip", "out", "cache", "backbone", "vae")
    given = {name: flags[name] for name in names} | SHAPE | changes
    with pytest.raises(ValueError, match=message):
        run(model, {name: words for name, words in given.items() if words is not None})
