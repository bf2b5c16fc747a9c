"""Running the shipped workflows without the shipped workflows' gigabytes: the same graph on tiny models with random
weights (`on_toys`), or on MiniWorld's trained ones (`on_minis`)."""

import copy
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOY_NODES = ROOT / "harness" / "toy_nodes"
MODELS = {
    "wan2.1_t2v_1.3B_fp16.safetensors": "wan-t2v",
    "hunyuan_video_t2v_720p_bf16.safetensors": "hunyuan-t2v",
    "wan2.1_i2v_480p_14B_fp16.safetensors": "wan-i2v-clip",
    "wan2.2_i2v_high_noise_14B_fp8_scaled.safetensors": "wan-i2v",
    "wan2.2_i2v_low_noise_14B_fp8_scaled.safetensors": "wan-i2v",
    "wan2.2_t2v_high_noise_14B_fp8_scaled.safetensors": "wan-t2v",
    "wan2.2_t2v_low_noise_14B_fp8_scaled.safetensors": "wan-t2v",
    "hunyuan_video_v2_replace_image_to_video_720p_bf16.safetensors": "hunyuan-t2v",
    "minimax_h3_fl2va_pruned_int8_convrot.safetensors": "h3",
}
TRAINERS = ("SemVidSSGAdapterTrain", "SemVidPlanAdapterTrain", "SemVidPlannerTrain")
CHECKPOINTS = {"ltx-2.3-22b-dev-fp8.safetensors": "ltxav23"}
LTX_TEXT = 96  # channels of that toy's text features
# nodes that use a CLIP
READERS = (
    "SemVidFocalGuidance",
    "SemVidAttentionMaps",
    "SemVidPromptTimeline",
    "MiniMaxH3ImageToVideo",
    "TextEncodeQwenImageEdit",
)

TRAINED = {"t2v": "mini_t2v.safetensors", "i2v": "mini_i2v.safetensors"}  # by what a Wan checkpoint's name holds
FILES = {  # loader -> its input and the mini model
    "VAELoader": ("vae_name", "mini_vae.safetensors"),
    "SemVidCLIPLoader": ("clip_name", "mini_clip.safetensors"),
    "SemVidVAPExpertLoader": ("expert_name", "mini_vap_expert.safetensors"),
    "SemVidSSGAdapterLoader": ("adapter_name", "mini_ssg_adapter.safetensors"),
    "SemVidPlannerLoad": ("planner_name", "mini_planner.safetensors"),
    "SemVidPlanAdapterLoader": ("adapter_name", "mini_plan_adapter.safetensors"),
}
SQUARE = {"width": 64, "height": 64}
SETTINGS = {  # what MiniWorld's reports run with; shift 8 is what Wan has by itself
    "KSampler": {"sampler_name": "euler", "steps": 20, "cfg": 4.0},
    "ModelSamplingSD3": {"shift": 8.0},
    "EmptyHunyuanLatentVideo": SQUARE | {"length": 21},
    "WanImageToVideo": SQUARE | {"length": 21},
    "SemVidVAPReference": SQUARE | {"length": 21},
    "SemVidDraftPlan": SQUARE,
    "ImageScale": SQUARE,
    "SemVidSwinRenderer": {"window": 6},
    "SemVidCLIPSpatialMask": {"filter": 1, "fusion": "product", "patches": "direct"},
    "SemVidVisualPrompt": {"style": "darken", "strength": 0.5},
}
LOSSLESS = {"filename_prefix": "mini", "fps": 12.0, "lossless": True, "quality": 90, "method": "fastest"}
ADAPTED = "SemVidSSGAdapterApply"
UNTRAINED = ("CLIPVisionLoader", "CLIPVisionEncode", "PreviewImage", "PreviewAny")


def load_workflow(name: str) -> dict:
    return json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))


def on_toys(api: dict, **changes) -> dict:
    """The workflow with toy models in place of its checkpoints, and inputs changed as in on_toys(api, latent={"length":
    81})."""
    api = copy.deepcopy(api)
    training = [node["inputs"] for node in api.values() if node["class_type"] in TRAINERS]
    towers = {inputs["encoder"][0] for inputs in training if "encoder" in inputs}
    encoders = {value[0] for inputs in training for value in inputs.values() if isinstance(value, list)}
    readers = [node["inputs"] for node in api.values() if node["class_type"] in READERS]
    tokenizers = {inputs["clip"][0] for inputs in readers if "clip" in inputs}
    wide = {"width": LTX_TEXT} if any(node["class_type"] == "LTXAVTextEncoderLoader" for node in api.values()) else {}
    for node_id, node in list(api.items()):
        inputs = node["inputs"]
        match node["class_type"]:
            case "UNETLoader":
                inputs["unet_name"] = f"{MODELS[inputs['unet_name']]}.safetensors"
            case "LoraLoaderModelOnly":
                inputs["lora_name"] = "toy_lora.safetensors"
            case "CheckpointLoaderSimple" | "LTXVAudioVAELoader":
                inputs["ckpt_name"] = f"{CHECKPOINTS[inputs['ckpt_name']]}.safetensors"
            case "VAELoader" if inputs["vae_name"].startswith("minimax_h3"):
                node["class_type"], node["inputs"] = "ToyMiniMaxVAELoader", {"audio": "audio" in inputs["vae_name"]}
            case "VAELoader":
                inputs["vae_name"] = "toy_vae.safetensors"
            case "CLIPVisionLoader" if node_id in towers:
                node["class_type"] = "SemVidCLIPLoader"
                node["inputs"] = {"clip_name": "mini_clip.safetensors", "activation": "auto"}
            case "CLIPLoader" | "CLIPVisionLoader" if node_id in encoders:
                node["class_type"], node["inputs"] = f"Toy{node['class_type']}", {}
            case "CLIPLoader" | "DualCLIPLoader" | "LTXAVTextEncoderLoader" if node_id in tokenizers:
                node["class_type"], node["inputs"] = "ToyCLIPLoader", dict(wide)
            case "CLIPLoader" | "DualCLIPLoader" | "CLIPVisionLoader" | "LTXAVTextEncoderLoader":
                del api[node_id]
            case "CLIPVisionEncode":
                node["class_type"], node["inputs"] = "ToyCLIPVisionEncode", {"image": inputs["image"]}
            case "SemVidVAPExpertLoader" | "SemVidVAPSaveExpert":
                inputs["expert_name"] = "toy_expert.safetensors"
            case "SemVidSSGAdapterLoader":
                inputs["adapter_name"] = "toy_adapter.safetensors"
            case "SemVidPlannerLoad":
                inputs["planner_name"] = "toy_planner.safetensors"
            case "SemVidPlanAdapterLoader":
                inputs["adapter_name"] = "toy_plan_adapter.safetensors"
            case "SemVidCLIPLoader":
                inputs["clip_name"] = "mini_clip.safetensors"
            case "SemVidCLIPSpatialMask":
                inputs["text"] = "a red square"  # words that MiniWorld's CLIP knows
            case "TextEncodeHunyuanVideo_ImageToVideo":
                node["class_type"], node["inputs"] = "ToyTextEncode", {"text": inputs["prompt"]}
            case "CLIPTextEncode":
                node["class_type"], node["inputs"] = "ToyTextEncode", {"text": inputs["text"]} | wide
    for node_id, inputs in changes.items():
        api[node_id]["inputs"] |= inputs
    return api


def on_minis(api: dict, **changes) -> dict:
    """A workflow of Wan 2.1 with MiniWorld's models in place of its checkpoints and the settings of MiniWorld's
    reports; inputs changed as in `on_toys`. Videos are saved without loss. Previews go, and so does what looks at a
    picture for the model's image branch, which the mini models have not; for an SSG Adapter the mini CLIP looks.
    ValueError on a checkpoint that no mini model stands for."""
    api = copy.deepcopy(api)
    seen = {node["inputs"]["clip_vision_output"][0] for node in api.values() if node["class_type"] == ADAPTED}
    towers = [name for name, node in api.items() if node["class_type"] == "SemVidCLIPLoader"]
    for name, node in list(api.items()):
        kind, inputs = node["class_type"], node["inputs"]
        if kind == "UNETLoader":
            found = [model for part, model in TRAINED.items() if f"wan2.1_{part}" in inputs["unet_name"]]
            if not found:
                raise ValueError(f"{inputs['unet_name']}: no mini model stands for it; use on_toys.")
            inputs["unet_name"] = found[0]
        elif kind in FILES:
            key, file = FILES[kind]
            inputs[key] = file
        elif kind == "CLIPLoader":
            node["class_type"], node["inputs"] = "SemVidMiniCLIPLoader", {"clip_name": "mini_clip.safetensors"}
        elif kind == "CLIPTextEncode" and "egative" in node["_meta"]["title"]:
            inputs["text"] = ""
        elif kind == "CLIPVisionEncode" and name in seen:
            node["class_type"], node["inputs"] = (
                "SemVidCLIPImageFeatures",
                {"clip": [towers[0], 0], "image": inputs["image"]},
            )
        elif kind in UNTRAINED:
            del api[name]
        elif kind == "SaveVideo":
            images = api[inputs["video"][0]]["inputs"]["images"]
            node["class_type"], node["inputs"] = "SaveAnimatedWEBP", LOSSLESS | {"images": images}
        inputs |= SETTINGS.get(kind, {})
    for node in api.values():  # links to what has gone
        node["inputs"] = {
            key: value for key, value in node["inputs"].items() if not isinstance(value, list) or value[0] in api
        }
    api = {name: node for name, node in api.items() if node["class_type"] != "CreateVideo"}
    for name, inputs in changes.items():
        api[name]["inputs"] |= inputs
    return api


def write_toys(models: Path) -> None:
    """The toys of all shipped workflows, into a ComfyUI models folder. Import after ComfyUI is on sys.path."""
    from .toy import EVERY, write_toy, write_toy_adapter, write_toy_expert, write_toy_lora, write_toy_vae
    from .toy_ltx import write_toy_ltx
    from .toy_plans import write_toy_plan_adapter, write_toy_planner

    for toy in set(MODELS.values()) & EVERY.keys():  # hosts before 0.30 have no MiniMax H3
        write_toy(toy, models / "diffusion_models" / f"{toy}.safetensors")
    for toy in CHECKPOINTS.values():
        write_toy_ltx(toy, models / "checkpoints" / f"{toy}.safetensors")
    write_toy_vae(models / "vae" / "toy_vae.safetensors")
    write_toy_lora(models / "loras" / "toy_lora.safetensors")
    write_toy_expert(models / "model_patches" / "toy_expert.safetensors")
    write_toy_adapter(models / "model_patches" / "toy_adapter.safetensors")
    write_toy_plan_adapter(models / "model_patches" / "toy_plan_adapter.safetensors")
    write_toy_planner(models / "model_patches" / "toy_planner.safetensors")
