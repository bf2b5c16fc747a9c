"""Where nodes of a template stand in the editor: in stages from left to right, a group around each."""

from collections import defaultdict

NODE, COLUMN, ROW_GAP, LINE = 380, 420, 60, 26  # px
PREVIEW = 250  # that a picture or video takes below the widgets of a node of our width
PREVIEWS = {"LoadVideo": 350}  # measured: the classic canvas gives its player more, and 630 to one that is upright
TALL, STAGE_GAP = 1100, 80  # a column higher than this goes on in the next
TITLE, MARGIN, HEAD = 30, 20, 50  # the bar above a node's body; around the nodes of a group; its own title
STAGES = ("Models", "Prompt, pictures, size", "Semantic Video", "Sampling", "Result")
COLOURS = ("#3f5159", "#3f789e", "#3f8a5a", "#8a6d3f", "#6d4f8a")
KINDS = {  # beginnings and ends of class names, and the stage; the pack's own are told by their prefix
    0: ("UNETLoader", "CLIPLoader", "DualCLIPLoader", "VAELoader", "CLIPVisionLoader", "LoraLoader", "ModelSampling"),
    3: ("KSampler", "Sampler", "BasicGuider", "CFGGuider", "BasicScheduler", "RandomNoise", "VAEDecode"),
    4: ("CreateVideo", "Save", "Preview"),
}
OWN = "SemVid"
OWN_LOADERS = ("Loader", "Load", "FromHost")


def stage_of(kind: str) -> int:
    """By the node's class name alone."""
    if kind.startswith(OWN):
        return 0 if kind.endswith(OWN_LOADERS) and kind != "SemVidPlanLoad" else 2
    return next((stage for stage, names in KINDS.items() if kind.startswith(names)), 1)


def sources(node: dict) -> list[str]:
    return [value[0] for value in node["inputs"].values() if isinstance(value, list)]


def stages(api: dict) -> dict[str, int]:
    """Stage of each node, never left of one it takes something from: a draft's decoder stands with the samplers, what
    looks at a finished picture behind what makes it."""
    found: dict[str, int] = {}

    def stage(name: str) -> int:
        if name not in found:
            found[name] = max([stage_of(api[name]["class_type"]), *map(stage, sources(api[name]))])
        return found[name]

    return {name: stage(name) for name in api}


def depths(api: dict, among: set[str]) -> dict[str, int]:
    """How many of these nodes stand, one after the other, before each of them."""

    def depth(name: str) -> int:
        return max((1 + depth(source) for source in sources(api[name]) if source in among), default=0)

    return {name: depth(name) for name in among}


def place(api: dict, nodes: dict[str, dict], previews: set[str]) -> list[dict]:
    """Sets "pos" and "order" of the editor's nodes, named as in `api`, and returns their groups: one below the other in
    the order they run in, in as many columns as it takes. previews: the nodes
    that show a picture below their widgets."""
    members = defaultdict(list)
    for name, stage in stages(api).items():
        members[stage].append(name)
    groups, left = [], 0
    for stage in sorted(members):
        names = members[stage]
        depth = depths(api, set(names))
        bottom = height = 0
        first = left
        for name in sorted(names, key=lambda name: depth[name]):
            tall = nodes[name]["size"][1] + (PREVIEWS.get(api[name]["class_type"], PREVIEW) if name in previews else 0)
            if height and height + tall > TALL:
                left, height = left + COLUMN, 0
            nodes[name] |= {"pos": [left, height], "order": len(groups)}
            height += tall + ROW_GAP
            bottom = max(bottom, height - ROW_GAP)
            if api[name]["class_type"] in PREVIEWS:
                height = TALL  # nothing below it
        left += COLUMN
        right = left - COLUMN + NODE
        top = -TITLE - MARGIN - HEAD
        box = [first - MARGIN, top, right - first + 2 * MARGIN, bottom - top + MARGIN]
        title = f"{len(groups) + 1}. {STAGES[stage]}"
        groups.append({"title": title, "bounding": box, "color": COLOURS[stage], "font_size": 24, "flags": {}})
        left += STAGE_GAP
    return groups
