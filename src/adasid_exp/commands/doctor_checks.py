"""What this machine has, looked up one thing at a time; nothing of the package but names is needed for it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from netrc import NetrcParseError
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from adasid_exp.commands.folders import BEAUTY
from adasid_exp.stages.wandb_login import PUBLIC, in_netrc, netrc_file, variable

PACKAGE = "adasid-exp"
EXTRAS = {
    "text": "text encoders: MiniLM without a network, any Hugging Face model",
    "image": "EfficientNet-Lite0 over a folder of images, without a network",
    "viz": "figures (SVG, PNG), logger=tensorboard",
    "report": "interactive figures of `adasid report`",
    "dashboards": "wandb workspaces from the specification (make dashboards)",
    "onnx": "`adasid export model` to ONNX",
    "numba": "the faster scorer on the CPU",
    "sweep": "search=... (Optuna), hydra/launcher=joblib",
    "ray": "engine=ray: logs prepared on a cluster",
    "slurm": "hydra/launcher=submitit_slurm",
    "docs": "the documentation site (make docs)",
    "bench": "make bench",
    "dev": "tests, style, types",
}
"""What each optional part gives."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
IMAGES = "image_features_Beauty.b"
RECORD = "downloaded.json"
HASHED = 64 << 20
"""Files larger than this are held against their recorded size alone: hashing 4 GB takes seconds."""
GIB = 2**30
LEAST_DISK, GOOD_DISK, GOOD_MEMORY = 0.2, 5.0, 2.0
"""GiB below which nothing can be written, and below which disk and memory are likely to run short."""

OK, NOTE, LACKS = "ok", "note", "LACKS"
"""States: there; optional and not there, or worth knowing; required and not there."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        topic: heading it stands under.
        name: what was looked at.
        state: `OK`, `NOTE` or `LACKS`.
        found: what there is.
        remedy: what to type or do; empty where nothing is to be done.
    """

    topic: str
    name: str
    state: str
    found: str
    remedy: str = ""


def looked_at(topic: str, name: str, *, good: bool, found: str, remedy: str, bad: str = NOTE) -> Check:
    """A check whose remedy is for the case that it is not good, which its state then calls ``bad``."""
    return Check(topic=topic, name=name, state=OK if good else bad, found=found, remedy="" if good else remedy)


def python_check() -> Iterator[Check]:
    """Python against the package's metadata."""
    wanted = SpecifierSet(metadata.metadata(PACKAGE)["Requires-Python"])
    good = wanted.contains(platform.python_version(), prereleases=True)
    yield looked_at(
        "versions",
        "python",
        good=good,
        found=platform.python_version(),
        remedy=f"make the environment with Python {wanted}: make PYTHON=python3.12 setup",
        bad=LACKS,
    )


def requirements() -> list[Requirement]:
    """What the package's metadata ask for, extras included."""
    return [Requirement(text) for text in metadata.requires(PACKAGE) or []]


def version_of(name: str) -> str | None:
    """The version of a distribution; None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def library_checks() -> Iterator[Check]:
    """Every library that the package cannot do without, against the range it was made for."""
    for need in requirements():
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        found = version_of(need.name)
        good = fits(need)
        yield looked_at(
            "versions",
            need.name,
            good=good,
            found=(found or "not installed") if good or found is None else f"{found}, wanted {need.specifier}",
            remedy=f'pip install "{need.name}{need.specifier}"',
            bad=LACKS,
        )


def extra_checks() -> Iterator[Check]:
    """The optional parts, and what each of them gives."""
    for extra, gives in EXTRAS.items():
        needs = [need for need in requirements() if need.marker and need.marker.evaluate({"extra": extra})]
        wrong = [need.name for need in needs if not fits(need)]
        found = gives if not wrong else f"{gives}: without {', '.join(wrong)}"
        remedy = f'pip install "{PACKAGE}[{extra}]"'
        yield looked_at("optional", extra, good=not wrong, found=found, remedy=remedy)


def fits(need: Requirement) -> bool:
    """Whether a requirement is met."""
    found = version_of(need.name)
    return found is not None and need.specifier.contains(found, prereleases=True)


def machine_checks() -> Iterator[Check]:
    """Cores, threads, memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Check(topic="machine", name="cores", state=OK, found=f"{cores} for this process of {os.cpu_count()}")
    asked = os.environ.get("OMP_NUM_THREADS")
    yield looked_at(
        "machine",
        "threads",
        good=asked == "1",
        found=f"OMP_NUM_THREADS={asked}" if asked else "OMP_NUM_THREADS is not set",
        remedy="export OMP_NUM_THREADS=1: several processes of one thread beat one of several",
    )
    total, free = memory()
    if total:
        yield looked_at(
            "machine",
            "memory",
            good=free >= GOOD_MEMORY * GIB,
            found=f"{free / GIB:.1f} GiB free of {total / GIB:.1f}",
            remedy="fewer processes at a time: adasid table ... --jobs 1",
        )


def memory() -> tuple[int, int]:
    """Bytes in all and free; zeros where /proc does not tell."""
    path = Path("/proc/meminfo")
    lines = path.read_text().splitlines() if path.exists() else []
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if len(line.split()) > 1}
    return sizes.get("MemTotal", 0), sizes.get("MemAvailable", 0)


def torch_checks() -> Iterator[Check]:
    """What torch can use: GPU, CUDA, bf16, NCCL, gloo."""
    try:
        torch = import_module("torch")
    except (ImportError, OSError) as error:
        reason = " ".join(str(error).split())
        yield Check(topic="devices", name="torch", state=LACKS, found=f"cannot be imported: {reason}", remedy=TORCH)
        return
    yield gpu_check(torch)
    yield bf16_check(torch)
    yield from distributed_checks(torch)


TORCH = "make setup installs the build that fits this machine"


def gpu_check(torch: ModuleType) -> Check:
    """GPUs that torch sees."""
    count = torch.cuda.device_count()
    if count:
        free, total = torch.cuda.mem_get_info(0)
        found = f"{count} x {torch.cuda.get_device_name(0)}, {free / GIB:.0f} GiB free of {total / GIB:.0f}"
        return Check(topic="devices", name="gpu", state=OK, found=f"{found}, CUDA {torch.version.cuda}")
    card = shutil.which("nvidia-smi")
    if card and torch.version.cuda is None:
        return Check(
            topic="devices",
            name="gpu",
            state=NOTE,
            found=f"there is a driver ({card}), but torch {torch.__version__} is the CPU build",
            remedy='make TORCH="torch>=2.11,<2.16" BACKEND="--torch-backend auto" setup',
        )
    remedy = "trainer=cpu (the default) needs none; ddp trains on several cores: trainer=ddp trainer.devices=2"
    return Check(topic="devices", name="gpu", state=NOTE, found="none that torch sees", remedy=remedy)


def bf16_check(torch: ModuleType) -> Check:
    """Whether bf16 is worth asking for."""
    if torch.cuda.device_count():
        good = bool(torch.cuda.is_bf16_supported(including_emulation=False))
        found = "in hardware" if good else "emulated"
    else:
        path = Path("/proc/cpuinfo")
        flags = path.read_text() if path.exists() else ""
        good = "amx_bf16" in flags or "avx512_bf16" in flags
        found = "this CPU computes in it" if good else "this CPU only emulates it"
    return looked_at("devices", "bf16", good=good, found=found, remedy="leave trainer.precision=32-true")


def distributed_checks(torch: ModuleType) -> Iterator[Check]:
    """The libraries by which ranks talk."""
    gloo, nccl = torch.distributed.is_gloo_available(), torch.distributed.is_nccl_available()
    lacking = "not in this torch"
    found, remedy = "trainer=ddp works" if gloo else lacking, f"trainer=ddp needs it: {TORCH}"
    yield looked_at("devices", "gloo", good=gloo, found=found, remedy=remedy)
    remedy = "trainer=ddp_gpu needs the CUDA build of torch; trainer=ddp does not"
    found = "trainer=ddp_gpu works" if nccl else lacking
    yield looked_at("devices", "nccl", good=nccl, found=found, remedy=remedy)


def disk_checks(runs: Path) -> Iterator[Check]:
    """Whether artifacts can be written, and how much fits.

    Args:
        runs: the store; need not be there yet.
    """
    place = next(folder for folder in (runs.absolute(), *runs.absolute().parents) if folder.exists())
    other = "runs=FOLDER or ADASID_RUNS=FOLDER names another place"
    try:
        with tempfile.NamedTemporaryFile(dir=place):
            pass
    except OSError as error:
        found = f"cannot write to {place}: {error.strerror}"
        yield Check(topic="disk", name="runs", state=LACKS, found=found, remedy=other)
        return
    yield Check(topic="disk", name="runs", state=OK, found=f"{runs.absolute()} can be written")
    free = shutil.disk_usage(place).free / GIB
    state = LACKS if free < LEAST_DISK else NOTE if free < GOOD_DISK else OK
    remedy = "" if state == OK else f"free some (a grid on Beauty takes about {GOOD_DISK:.0f} GiB), or {other}"
    yield Check(topic="disk", name="free", state=state, found=f"{free:.1f} GiB", remedy=remedy)


def credential_checks() -> Iterator[Check]:
    """wandb: whether there is a login, and in which mode it would run."""
    mode = os.environ.get("WANDB_MODE")
    where = wandb_login()
    how = f", WANDB_MODE={mode}" if mode else ""
    yield looked_at(
        "credentials",
        "wandb",
        good=where is not None,
        found=f"{where or 'no login: logger=wandb stays offline'}{how}",
        remedy="`wandb login`, or set WANDB_API_KEY; `wandb sync` sends offline runs later",
    )


def wandb_login() -> str | None:
    """Where the credentials are; None without."""
    name = variable()
    if name:
        return f"{name} is set"
    try:
        host = in_netrc([urlsplit(os.environ.get("WANDB_BASE_URL", f"https://{PUBLIC}")).netloc])
    except (OSError, NetrcParseError):
        return None
    return f"{host} in {netrc_file()}" if host else None


def data_checks(folder: Path) -> Iterator[Check]:
    """The data sets at hand.

    Args:
        folder: where Beauty is looked for.
    """
    yield Check(topic="data", name="toy", state=OK, found="generated, needs no files: adasid table table2 --data toy")
    tables = [path for name in ("interactions", "items") for path in folder.glob(f"{name}.*")]
    public = [folder / name for name in BEAUTY if (folder / name).is_file()]
    if not tables and not public:
        remedy = "make data-beauty where there is a network, or name its folder: adasid doctor --data FOLDER"
        yield Check(topic="data", name="beauty", state=NOTE, found=f"nothing in {folder}", remedy=remedy)
        return
    found = public or tables
    lacking = sorted(set(BEAUTY) - {path.name for path in public}) if public else lacking_tables(tables)
    damaged = [path.name for path in found if not as_recorded(path)]
    names = ", ".join(f"{path.name} {path.stat().st_size / 2**20:.1f} MiB" for path in found)
    problem = [f"{name} is missing" for name in lacking] + [f"{name} is not what was downloaded" for name in damaged]
    text = "; ".join([f"{folder}: {names}", *problem])
    remedy = "delete what is damaged, then make data-beauty"
    yield looked_at("data", "beauty", good=not problem, found=text, remedy=remedy)
    vision = [path for path in (folder / IMAGES, *folder.glob("vision*.npy")) if path.is_file()]
    yield looked_at(
        "data",
        "images",
        good=bool(vision),
        found=vision[0].name if vision else "no image features: text and attributes are the content",
        remedy="make data-beauty fetches them (4 GB); modalities=text_vision uses them",
    )


def lacking_tables(tables: list[Path]) -> list[str]:
    """Which of the two tables is not there."""
    return sorted({"interactions", "items"} - {path.stem for path in tables})


def as_recorded(path: Path) -> bool:
    """Whether a file is as it was when it was downloaded; True where nothing was recorded."""
    record = path.parent / RECORD
    entry: Mapping[str, object] = {}
    if record.is_file():
        try:
            entry = json.loads(record.read_text(encoding="utf-8")).get(path.name, {})
        except ValueError:
            return False
    if not entry or path.stat().st_size != entry.get("bytes"):
        return not entry
    return path.stat().st_size > HASHED or hashlib.sha256(path.read_bytes()).hexdigest() == entry.get("sha256")


def tool_checks() -> Iterator[Check]:
    """Programs beside Python."""
    named = os.environ.get("ADASID_CHROMIUM")
    browser = named if named and Path(named).exists() else next(filter(None, map(shutil.which, BROWSERS)), None)
    found = browser or "none found: reports are made all the same, their tests are skipped"
    remedy = "install chromium, or set ADASID_CHROMIUM=PATH"
    yield looked_at("programs", "browser", good=browser is not None, found=found, remedy=remedy)
    git = shutil.which("git")
    found = git or "none: artifacts record the version instead of the commit"
    yield looked_at("programs", "git", good=git is not None, found=found, remedy="install git")


def all_checks(runs: Path, data: Path) -> list[Check]:
    """Everything, in the order of the table."""
    return [
        *python_check(),
        *library_checks(),
        *machine_checks(),
        *torch_checks(),
        *disk_checks(runs),
        *data_checks(data),
        *credential_checks(),
        *extra_checks(),
        *tool_checks(),
    ]


def interpreter() -> str:
    """Where this Python is, for the table's title."""
    return sys.executable
