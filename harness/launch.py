"""python launch.py /path/to/ComfyUI/main.py [ComfyUI's arguments]: starts ComfyUI with the stand-ins this machine
needs, and fast small VAEs."""

import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import conv3d  # noqa: E402
import stand_ins  # noqa: E402

if __name__ == "__main__":
    stand_ins.install()
    conv3d.use_onednn()
    sys.argv = sys.argv[1:]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")
