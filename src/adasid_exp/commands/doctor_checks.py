"""What this machine has, looked up one thing at a time; nothing of the package but names is needed for it."""

from __future__ import annotations

import hashlib
import json
import netrc
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

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
PUBLIC = ("reviews_Beauty_5.json.gz", "meta_Beauty.json.gz")
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


def python_check() -> Iterator[Check]:
    """Python against the package's metadata."""
    wanted = SpecifierSet(metadata.metadata(PACKAGE)["Requires-Python"])
    good = wanted.contains(platform.python_version(), prereleases=True)
    remedy = "" if good else f"make the environment with Python {wanted}: make PYTHON=python3.12 setup"
    yield Check(
        topic="versions", name="python", state=OK if good else LACKS, found=platform.python_version(), remedy=remedy
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
        good = found is not None and need.specifier.contains(found, prereleases=True)
        yield Check(
            topic="versions",
            name=need.name,
            state=OK if good else LACKS,
            found=(found or "not installed") if good or found is None else f"{found}, wanted {need.specifier}",
            remedy="" if good else f'pip install "{need.name}{need.specifier}"',
        )


def extra_checks() -> Iterator[Check]:
    """The optional parts, and what each of them gives."""
    for extra, gives in EXTRAS.items():
        needs = [need for need in requirements() if need.marker and need.marker.evaluate({"extra": extra})]
        wrong = [need.name for need in needs if not fits(need)]
        found = gives if not wrong else f"{gives}: without {', '.join(wrong)}"
        remedy = f'pip install "{PACKAGE}[{extra}]"' if wrong else ""
        yield Check(topic="optional", name=extra, state=NOTE if wrong else OK, found=found, remedy=remedy)


def fits(need: Requirement) -> bool:
    """Whether a requirement is met."""
    found = version_of(need.name)
    return found is not None and need.specifier.contains(found, prereleases=True)


def machine_checks() -> Iterator[Check]:
    """Cores, threads, memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Check(topic="machine", name="cores", state=OK, found=f"{cores} for this process of {os.cpu_count()}")
    asked = os.environ.get("OMP_NUM_THREADS")
    yield Check(
        topic="machine",
        name="threads",
        state=OK if asked == "1" else NOTE,
        found=f"OMP_NUM_THREADS={asked}" if asked else "OMP_NUM_THREADS is not set",
        remedy="" if asked == "1" else "export OMP_NUM_THREADS=1: several processes of one thread beat one of several",
    )
    total, free = memory()
    if total:
        short = free < GOOD_MEMORY * GIB
        yield Check(
            topic="machine",
            name="memory",
            state=NOTE if short else OK,
            found=f"{free / GIB:.1f} GiB free of {total / GIB:.1f}",
            remedy="fewer processes at a time: adasid table ... --jobs 1" if short else "",
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
        found, remedy = ("in hardware", "") if good else ("emulated", "leave trainer.precision=32-true")
        return Check(topic="devices", name="bf16", state=OK if good else NOTE, found=found, remedy=remedy)
    path = Path("/proc/cpuinfo")
    flags = path.read_text() if path.exists() else ""
    good = "amx_bf16" in flags or "avx512_bf16" in flags
    return Check(
        topic="devices",
        name="bf16",
        state=OK if good else NOTE,
        found="this CPU computes in it" if good else "this CPU only emulates it",
        remedy="" if good else "leave trainer.precision=32-true",
    )


def distributed_checks(torch: ModuleType) -> Iterator[Check]:
    """The libraries by which ranks talk."""
    gloo, nccl = torch.distributed.is_gloo_available(), torch.distributed.is_nccl_available()
    yield Check(
        topic="devices",
        name="gloo",
        state=OK if gloo else NOTE,
        found="trainer=ddp works" if gloo else "not in this torch",
        remedy="" if gloo else f"trainer=ddp needs it: {TORCH}",
    )
    yield Check(
        topic="devices",
        name="nccl",
        state=OK if nccl else NOTE,
        found="trainer=ddp_gpu works" if nccl else "not in this torch",
        remedy="" if nccl else "trainer=ddp_gpu needs the CUDA build of torch; trainer=ddp does not",
    )


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
    yield Check(
        topic="credentials",
        name="wandb",
        state=OK if where else NOTE,
        found=f"{where or 'no login: logger=wandb stays offline'}{how}",
        remedy="" if where else "`wandb login`, or set WANDB_API_KEY; `wandb sync` sends offline runs later",
    )


def wandb_login() -> str | None:
    """Where the credentials are; None without."""
    if os.environ.get("WANDB_API_KEY"):
        return "WANDB_API_KEY is set"
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).netloc
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        known = path.is_file() and netrc.netrc(path).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        return None
    return f"{host} in {path}" if known else None


def data_checks(folder: Path) -> Iterator[Check]:
    """The data sets at hand.

    Args:
        folder: where Beauty is looked for.
    """
    yield Check(topic="data", name="toy", state=OK, found="generated, needs no files: adasid table table2 --data toy")
    tables = [path for name in ("interactions", "items") for path in folder.glob(f"{name}.*")]
    public = [folder / name for name in PUBLIC if (folder / name).is_file()]
    if not tables and not public:
        remedy = "make data-beauty where there is a network, or name its folder: adasid doctor --data FOLDER"
        yield Check(topic="data", name="beauty", state=NOTE, found=f"nothing in {folder}", remedy=remedy)
        return
    found = public or tables
    lacking = sorted(set(PUBLIC) - {path.name for path in public}) if public else lacking_tables(tables)
    damaged = [path.name for path in found if not as_recorded(path)]
    names = ", ".join(f"{path.name} {path.stat().st_size / 2**20:.1f} MiB" for path in found)
    problem = [f"{name} is missing" for name in lacking] + [f"{name} is not what was downloaded" for name in damaged]
    state = NOTE if problem else OK
    remedy = "delete what is damaged, then make data-beauty" if problem else ""
    yield Check(
        topic="data", name="beauty", state=state, found="; ".join([f"{folder}: {names}", *problem]), remedy=remedy
    )
    vision = [path for path in (folder / IMAGES, *folder.glob("vision*.npy")) if path.is_file()]
    yield Check(
        topic="data",
        name="images",
        state=OK if vision else NOTE,
        found=vision[0].name if vision else "no image features: text and attributes are the content",
        remedy="" if vision else "make data-beauty fetches them (4 GB); modalities=text_vision uses them",
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
    yield Check(
        topic="programs",
        name="browser",
        state=OK if browser else NOTE,
        found=browser or "none found: reports are made all the same, their tests are skipped",
        remedy="" if browser else "install chromium, or set ADASID_CHROMIUM=PATH",
    )
    git = shutil.which("git")
    yield Check(
        topic="programs",
        name="git",
        state=OK if git else NOTE,
        found=git or "none: artifacts record the version instead of the commit",
        remedy="" if git else "install git",
    )


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
