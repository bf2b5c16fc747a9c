"""The only code that knows ComfyUI's insides: attention editing, geometry of a call, schedules, extra weights."""
