"""The page of run.py bench overview, from made-up times."""

from semantic_video.benchmarks import overview
from semantic_video.benchmarks.overview import HOST, Group, Side


def test_ratios_are_of_rounds_side_by_side(monkeypatch):
    """The first round warms up; then a machine that is twice as slow in one round changes no ratio."""
    times = {"host": iter((9.0, 1.0, 2.0, 1.0)), "ours": iter((1.0, 1.5, 3.0, 1.8))}
    monkeypatch.setattr(overview, "timed", lambda model, *_: [next(times[model])])
    sides = [Side(HOST, "host", "host", None, []), Side("Technique", "ours", "ours", None, [])]
    host, ours = overview.measure(Group("Some", "small", sides), 3, None)
    assert (host["seconds"], host["ratio"], host["least"], host["greatest"]) == (1.0, 1.0, 1.0, 1.0)
    assert (ours["seconds"], ours["ratio"], ours["least"], ours["greatest"]) == (1.8, 1.5, 1.5, 1.8)


def test_the_page(tmp_path):
    row = {"seconds": 2.0, "ratio": 1.25, "least": 1.2, "greatest": 1.314}
    rows = [{"name": name, "kind": kind, **row} for name, kind in ((HOST, "host"), ("Ours", "ours"), ("CFG", "peer"))]
    result = {
        "device": "CPU",
        "label": "cpu",
        "torch": "2",
        "clock": "wall clock",
        "rounds": 3,
        "groups": [{"title": "Some", "size": "width 3", "rows": rows}],
        "not there": ["KJNodes WanVideoNAG"],
    }
    page = overview.table(result)
    for line in (
        "![ratios](overview-cpu.png)",
        "## Some\n\nWidth 3.",
        f"| {HOST} | 2.000 | 1.25 |  |",
        "| Ours | 2.000 | 1.25 | 1.20 .. 1.31 |",
        "| *CFG* | 2.000 | 1.25 | 1.20 .. 1.31 |",
        "because it was not there: KJNodes WanVideoNAG.",
    ):
        assert line in page
    overview.plot(result, tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 2000
