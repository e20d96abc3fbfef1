"""Compares what `yoke plan` says with what the engine says, for the same model, options and place.

Whatever the plan decides (layers, tensor split, batches) is given to the engine.
"""

import contextlib
import dataclasses
import json
import pathlib
import re
import subprocess

import engine_memory
import make_model
from engine_memory import HOST, MIB, DeviceMemory, EngineRefused, Options

PLAN_LIMIT_S = 60
# The goal: within the greater of both.
TOLERANCE = 0.02
TOLERANCE_BYTES = 64 * MIB
KINDS = ("weights", "context", "compute", "output")
# More than any of these models takes.
MEMORY = "2048GiB"
PIPELINE_COPIES = 4  # Of llama.cpp's: batches under way at once.


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where layers can lie: `remote` RPC servers, or the software GPU, or else the CPU."""
    name: str
    remote: int = 0
    gpu: bool = False
    gpu_layers: int = -1  # -1: all, if there is a GPU.

    @property
    def backend(self):
        return "vulkan" if self.gpu else "cpu"

    def hardware(self):
        """As a hardware file of Yoke's: the first machine runs the engine. RPC servers are machines
        that compute on their CPU."""
        gpu = f'[[machine.gpu]]\nname = "gpu"\nbackend = "vulkan"\nmemory = "{MEMORY}"\n'
        machines = ["host", *(f"remote{n}" for n in range(self.remote))]
        text = [f'[[machine]]\nname = "{name}"\nmemory = "{MEMORY}"\n' for name in machines]
        return "\n".join([text[0] + gpu if self.gpu else text[0], *text[1:]])


CPU = Layout("CPU")
GPU = Layout("GPU", gpu=True)
REMOTE = Layout("1 remote", remote=1)
FOUR_REMOTE = Layout("4 remote", remote=4)


def partly(layout, layers):
    return dataclasses.replace(layout, name=f"{layout.name}, {layers} layers", gpu_layers=layers)


@dataclasses.dataclass(frozen=True)
class Case:
    kind: str  # "small" or "true"
    model: str
    layout: Layout
    options: Options
    name: str  # What is special about the options.


@dataclasses.dataclass
class Row:
    """One device of a case."""
    case: Case
    device: str
    plan: DeviceMemory
    engine: DeviceMemory

    def errors(self):
        """Bytes that the plan has more than the engine, by kind and in total."""
        return {kind: getattr(self.plan, kind) - getattr(self.engine, kind)
                for kind in (*KINDS, "total")}

    def is_within(self):
        return all(abs(error) <= max(TOLERANCE_BYTES, TOLERANCE * getattr(self.engine, kind))
                   for kind, error in self.errors().items())


class Refused(Exception):
    """The plan says that the engine would refuse."""


class Models:
    """Makes models as they are asked for, in one directory."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.files = {}

    def file(self, kind, name):
        if (kind, name) not in self.files:
            make = make_model.small if kind == "small" else make_model.true_size
            self.files[kind, name] = make(name, self.directory)
        return self.files[kind, name]


def plan(yoke, file, layout, options, hardware_file):
    """What `yoke plan --json` answers. `hardware_file`: of `layout`."""
    command = [yoke, "plan", str(file), "--hardware", str(hardware_file), "--json",
               "--ctx-size", str(options.n_ctx), "--batch-size", str(options.n_batch),
               "--ubatch-size", str(options.n_ubatch),
               "--parallel", "0" if options.unified else str(options.parallel),
               "--gpu-layers", str(layout.gpu_layers),
               "--flash-attn", "on" if options.flash_attention else "off",
               "--cache-type-k", options.cache_type_k, "--cache-type-v", options.cache_type_v]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PLAN_LIMIT_S,
                          stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise Refused(done.stderr.strip())
    return json.loads(done.stdout)


def _planned(answer, layout):
    """By place: HOST, then the GPUs in their order."""
    places = [HOST, *range(max(layout.remote, int(layout.gpu)))]
    memory = {place: DeviceMemory() for place in places}
    for device in answer["devices"]:
        remote = re.match(r"remote(\d+)", device["name"])
        place = int(remote[1]) if remote else HOST if device["backend"] == "cpu" else 0
        memory[place] = DeviceMemory(device["weights"], device["kv"] + device["state"],
                                     device["compute"], device["output_buffer"])
    return memory


def _as_planned(answer, options, layout):
    """The options of the engine that make it do what was planned."""
    planned = answer["options"]
    assert planned["n_ctx"] == options.n_ctx and planned["sequences"] == options.parallel, planned
    assert planned["unified_cache"] == options.unified, planned
    split = tuple(answer["tensor_split"]) if layout.remote > 1 else ()
    return dataclasses.replace(
        options, n_batch=planned["n_batch"], n_ubatch=planned["n_ubatch"],
        gpu_layers=answer["gpu_layers"] if layout.gpu_layers >= 0 else -1, tensor_split=split)


def forgotten_pins(yoke, file, n_ubatch):
    """What a dry run counts too much, in bytes, on each device of a pipeline behind the first.

    It forgets on which device each norm has to be computed (ggml_backend_sched_reserve_size resets
    that), and then the norm's input is there as well as its result, in every copy of the pipeline.
    A model that is really loaded does not take it: DryRunTest in test_plan_memory.py."""
    done = subprocess.run([yoke, "show", str(file), "--json"], capture_output=True, text=True,
                          timeout=PLAN_LIMIT_S, stdin=subprocess.DEVNULL, check=True)
    return PIPELINE_COPIES * json.loads(done.stdout)["embedding_length"] * n_ubatch * 4


def is_pipeline(case):
    # An embedding model's norms come behind the sums, and need no device of their own.
    layout = case.layout
    return layout.remote > 1 and layout.gpu_layers < 0 and not is_embedding(case.model)


def compare(yoke, models, case, directory):
    """The rows of a case. None if plan and engine agree that it can't be."""
    engine = engine_memory.find(case.layout.backend)
    file = models.file(case.kind, case.model)
    hardware = pathlib.Path(directory) / "hardware.toml"
    hardware.write_text(case.layout.hardware())
    answer = refused = None
    try:
        answer = plan(yoke, file, case.layout, case.options, hardware)
        options = _as_planned(answer, case.options, case.layout)
    except Refused as error:
        options, refused = case.options, str(error)
    servers = engine.rpc_servers(case.layout.remote) if case.layout.remote else (
        contextlib.nullcontext([]))
    with servers as rpc:
        try:
            report = engine.dry_run(file, options, rpc, embedding=is_embedding(case.model))
        except EngineRefused:
            if refused:
                return None
            raise
    if refused:
        raise Refused(refused)
    if is_pipeline(case):
        extra = forgotten_pins(yoke, file, options.n_ubatch)
        for address in rpc[1:]:
            # One without layers has nothing of it.
            memory = report.devices.get(address)
            if memory and memory.compute > extra:
                memory.compute -= extra
    return _rows(case, _planned(answer, case.layout), report, rpc)


def _rows(case, planned, report, rpc):
    names = rpc or ([name for name in report.devices if name != HOST] or ["Vulkan0"])
    rows = []
    for place, memory in planned.items():
        name = HOST if place == HOST else names[place]
        shown = HOST if place == HOST else f"{'remote' if rpc else 'GPU'} {place}"
        rows.append(Row(case, shown, memory, report.devices.get(name, DeviceMemory())))
    return rows


def is_embedding(model):
    return model.startswith(("bert", "bge"))


# Cases

_LONG = 32768
# Where nobody says how many requests there are at once: four, which share the context.
_OPTIONS = {
    "": Options(parallel=4),
    "flash attention off": Options(parallel=4, flash_attention=False),
    "32768 tokens": Options(parallel=4, n_ctx=_LONG),
    "q8_0 cache": Options(parallel=4, cache_type_k="q8_0", cache_type_v="q8_0"),
    "1 request": Options(parallel=1, unified=False),
    "4 requests apart": Options(parallel=4, unified=False),
    "ubatch 2048": Options(parallel=4, n_ubatch=2048),
    "flash attention off, ubatch 2048": Options(parallel=4, flash_attention=False, n_ubatch=2048),
    "flash attention off, 32768 tokens, 4 requests apart": Options(
        parallel=4, flash_attention=False, n_ctx=_LONG, unified=False),
    "q4_0 keys, flash attention off": Options(parallel=4, flash_attention=False,
                                              cache_type_k="q4_0"),
    "q8_0 values, flash attention off": Options(parallel=4, flash_attention=False,
                                                cache_type_v="q8_0"),
    "5000 tokens, batch 300": Options(parallel=4, n_ctx=5000, n_batch=300, n_ubatch=300),
}
_EMBEDDING_OPTIONS = {
    "": Options(n_ctx=512, n_batch=512, parallel=4),
    "flash attention off": Options(n_ctx=512, n_batch=512, parallel=4, flash_attention=False),
}
# Of a model in parts, and of several machines: those that change what lies where.
_FEW = ("", "flash attention off", "32768 tokens", "ubatch 2048")


# Mesa's software GPU binds no more than 128 MiB at once, less than the scores of attention take
# here: it leaves them to the CPU, as no real GPU does.
_TOO_LARGE_FOR_SOFTWARE = "flash attention off, ubatch 2048"


def all_cases():
    models = [*(("small", name) for name in make_model.SMALL),
              *(("true", name) for name in make_model.true_names())]
    for kind, model in models:
        for name, options in (_EMBEDDING_OPTIONS if is_embedding(model) else _OPTIONS).items():
            yield Case(kind, model, CPU, options, name)
            if kind == "true":
                yield Case(kind, model, REMOTE, options, name)
            elif name != _TOO_LARGE_FOR_SOFTWARE:
                yield Case(kind, model, GPU, options, name)
            if name in _FEW:
                part = partly(GPU, 3) if kind == "small" else partly(REMOTE, 16)
                yield Case(kind, model, part, options, name)
                yield Case(kind, model, FOUR_REMOTE, options, name)
