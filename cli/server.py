"""ComfyUI without a window: started on a free port with this pack mounted."""

import asyncio
import socket
import subprocess
import sys
import time
from pathlib import Path

import aiohttp

from .client import Client, ServerError

ROOT = Path(__file__).resolve().parent.parent
MOUNT = """# Loads the pack from where it is, as if it had been cloned into custom_nodes.
import importlib.util
import sys
from pathlib import Path

root = Path({root!r})
spec = importlib.util.spec_from_file_location({name!r}, root / "__init__.py", submodule_search_locations=[str(root)])
pack = sys.modules[{name!r}] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pack)
comfy_entrypoint = pack.comfy_entrypoint
WEB_DIRECTORY = str(root / getattr(pack, "WEB_DIRECTORY", "web"))
"""
MOUNT_MODULE = """# Loads one module of the pack that has an entry point of its own.
import importlib
import sys
import types

package = sys.modules[{name!r}] = types.ModuleType({name!r})
package.__path__ = [{root!r}]
comfy_entrypoint = importlib.import_module({name!r} + ".{module}").comfy_entrypoint
"""
OWN_GROUP = (  # Ctrl-C reaches the command, which ends its server in order
    {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if sys.platform == "win32" else {"start_new_session": True}
)


class Server(Client):
    """`with Server(host, base) as server`: a ComfyUI whose models, input, output and custom nodes lie in `base`.

    packs: folders mounted as custom nodes; modules: of this pack, mounted beside it, with an entry point of their own
    ("mini.nodes"). The log is base/comfyui.log. Raises ServerError with its end if ComfyUI does not come up.
    """

    def __init__(
        self,
        host: Path,
        base: Path,
        packs: tuple[Path, ...] = (ROOT,),
        modules: tuple[str, ...] = (),
        arguments: tuple[str, ...] = (),
        timeout: float = 600,  # a busy machine is slow, and one that fails says so by ending
    ):
        super().__init__("", base.resolve())  # the address is that of a free port, once it starts
        self.host, self.arguments, self.timeout = host, arguments, timeout
        models = (f"models/{kind}" for kind in ("diffusion_models", "vae", "text_encoders", "model_patches"))
        for folder in ("custom_nodes", "input", "output", "temp", "user", *models):
            (self.base / folder).mkdir(parents=True, exist_ok=True)
        for pack in packs:
            self._mount(MOUNT, pack.name, root=str(pack))
        for module in modules:
            self._mount(MOUNT_MODULE, module.replace(".", "-"), root=str(ROOT), module=module)

    def _mount(self, template: str, name: str, **values: str) -> None:
        file = self.base / "custom_nodes" / f"mounted-{name}" / "__init__.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(template.format(name=f"mounted_{name}".replace("-", "_"), **values), encoding="utf-8")

    def __enter__(self) -> "Server":
        import torch

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        launch = ROOT / "harness" / "launch.py"
        command = [
            sys.executable,
            str(launch),
            str(self.host / "main.py"),
            "--port",
            str(port),
            "--base-directory",
            str(self.base),
            "--disable-auto-launch",
            "--disable-api-nodes",
            *([] if torch.cuda.is_available() else ["--cpu"]),
            *self.arguments,
        ]
        self.log = self.base / "comfyui.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.host,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                **OWN_GROUP,
            )
        try:
            asyncio.run(self._wait_until_up())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    async def _wait_until_up(self) -> None:
        end = time.monotonic() + self.timeout
        async with aiohttp.ClientSession() as session:
            while time.monotonic() < end and self.process.poll() is None:
                try:
                    async with session.get(f"http://{self.address}/system_stats") as answer:
                        if answer.ok:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.2)
        raise self._gone("did not start")

    def _gone(self, what: str) -> ServerError:
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
        return ServerError(f"ComfyUI at {self.host} {what}. The end of its log:\n{tail}")
