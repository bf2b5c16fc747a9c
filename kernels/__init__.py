"""The mathematics: plain torch, no ComfyUI, no files."""
