"""Names of files that nodes write: checked before any work starts, for every system that people share files with."""

from pathlib import Path

ENDING, PARTIAL = ".safetensors", ".{}.partial"  # as `save_weights` writes: under another name until it is whole
LONGEST, LONGEST_PATH = 255, 4000  # bytes of a name, on all common file systems, and of a path
FORBIDDEN = '<>:"|?*\\'  # on Windows; the last is no separator anywhere else
RESERVED = {"con", "prn", "aux", "nul"} | {f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10)}


def target_file(folder: str | Path, filename: str, title: str = "filename") -> Path:
    """`folder`/`filename`.safetensors; `filename` may name subfolders with "/".

    Raises ValueError, naming the input `title`, its value and the remedy, for names that lead elsewhere, that Windows
    reserves, or that are too long to be written.
    """
    folder = Path(folder).resolve()
    parts = filename.split("/")
    for part in parts:
        require_portable(part, filename, title)
    longest = LONGEST - len(PARTIAL.format(ENDING).encode())
    for name, size, room in [*((part, len(part.encode()), longest) for part in parts), whole_path(folder, filename)]:
        if size > room:
            raise ValueError(
                f"{title} '{name[:40]}...': {size} bytes long; there is room for {room}. Choose a shorter name."
            )
    target = (folder / f"{filename}{ENDING}").resolve()
    if not target.is_relative_to(folder):
        raise ValueError(f"{title} '{filename}': leads out of {folder.name}. Name a file inside it.")
    return target


def whole_path(folder: Path, filename: str) -> tuple[str, int, int]:
    """(filename, bytes of the whole path, room for them)."""
    return filename, len(str(folder / PARTIAL.format(f"{filename}{ENDING}")).encode()), LONGEST_PATH


def require_portable(part: str, filename: str, title: str) -> None:
    """Raises ValueError for a part of a path that cannot be a name on every system."""
    wrong = next((c for c in part if c in FORBIDDEN or ord(c) < 32 or ord(c) == 127), None)
    if wrong is not None:
        reason = f"holds {wrong!r}, which file names cannot hold"
    elif not part.strip(" ."):
        reason = "has an empty part, or one of dots and spaces only"
    elif part != part.strip(" ") or part.endswith("."):
        reason = "begins or ends with a space, or ends with a dot"
    elif part.split(".")[0].strip().lower() in RESERVED:
        reason = f"'{part}' is a name that Windows reserves"
    elif not is_text(part):
        reason = "holds characters that cannot be written"
    else:
        return
    raise ValueError(f"{title} {filename[:80]!r}: {reason}. Name a file, with / between folders, such as mine/expert.")


def is_text(part: str) -> bool:
    try:
        part.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True
