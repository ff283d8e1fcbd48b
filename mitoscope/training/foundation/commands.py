"""The commands `mitoscope train base`, `embed`, `probe` and `scale`."""

import argparse
from pathlib import Path
from typing import Any

from mitoscope.errors import DataError
from mitoscope.training.study.options import add_launcher, choose_launcher, whole_number

Commands = Any  # argparse's own type is private


def _embed(options: argparse.Namespace) -> None:
    from mitoscope.networks.device import check_precision, choose_device
    from mitoscope.settings import override
    from mitoscope.training.bases.weights import own_input
    from mitoscope.training.foundation.embedder import build_embedder
    from mitoscope.training.foundation.probe.store import embed

    data = _read_crops(options.data)
    device = choose_device(options.device)
    precision = options.precision
    if precision == "auto":
        precision = "fp16" if device.type == "cuda" else "fp32"
    check_precision(precision, device)
    spec = override(own_input(options.network), options.set)
    embedder = build_embedder(options.network, options.base, input=spec, device=device, precision=precision)
    n_new = embed(data, embedder, options.out, options.orientations)
    print(f"embedded {n_new:,} of {len(data.table):,} crops into {options.out}; what was there is not done again")


def _probe(options: argparse.Namespace) -> None:
    from mitoscope.training.folds import split
    from mitoscope.training.foundation.probe.heads import configure_probes
    from mitoscope.training.foundation.probe.publish import find_probe_base, publish_probe
    from mitoscope.training.foundation.probe.run import evaluate_probes, fit_probe
    from mitoscope.training.foundation.probe.store import read_embeddings

    if options.publish and len(options.probe) > 1:
        raise DataError(
            "--publish takes one probe", got=", ".join(options.probe), expected="one --probe", remedy="name one"
        )
    for option, given in (("--base", options.base), ("--embed-base", options.embed_base)):
        if given and not options.publish:
            raise DataError(f"{option} needs --publish", got=given, expected="--publish DIR", remedy="add it")
    settings = configure_probes(options.probe, options.set)
    data = _read_crops(options.data)
    embeddings = read_embeddings(options.embeddings, data)
    base = None
    if options.publish:
        ((name, probe),) = settings.items()
        stored, out = options.embed_base, options.publish
        base = find_probe_base(name, probe, data, embeddings, options.base, out, embed_base=stored)
    folds = split(data, options.hold_out, options.seed)
    probes = [fit_probe(name, each, data, folds, embeddings) for name, each in settings.items()]
    print(evaluate_probes(probes, data, folds, embeddings, options.threshold_rule, options.out))
    print(f"wrote {options.out}")
    if base:
        rule = options.threshold_rule
        print(publish_probe(probes[0], data, folds, embeddings, base, rule, out, embed_base=stored))
        print(f"wrote {out}")


def _scale(options: argparse.Namespace) -> None:
    from mitoscope.training.foundation.probe.store import read_embeddings
    from mitoscope.training.foundation.scale.report import write_study
    from mitoscope.training.foundation.scale.run import Source, run_plan
    from mitoscope.training.foundation.scale.trials import Plan

    for key, *values in options.grid:
        if not values:
            raise DataError(f"--grid {key} names no value", got="none", expected="--grid KEY V1 V2", remedy="add some")
    plan = Plan(
        methods=tuple(options.method),
        grid=tuple((key, tuple(values)) for key, *values in options.grid),
        fractions=tuple(options.fractions),
        seeds=tuple(options.seeds),
        splits=tuple(options.split),
        leave_one_out=options.leave_one_out or "",
        hold_out=tuple(options.hold_out),
    )
    data = _read_crops(options.data)
    embeddings = read_embeddings(options.embeddings, data) if options.embeddings else None
    source = Source(options.data, data, embeddings, tuple(options.set), options.base)
    scored = run_plan(plan, source, options.out, choose_launcher(options))
    more = {"settings": options.set} | ({"embeddings": embeddings.record} if embeddings else {})
    print(write_study(plan, scored, options.out, more))
    print(f"wrote {options.out}")


def _base(options: argparse.Namespace) -> None:
    from mitoscope.training.bases.weights import find_weights, write_base

    base = write_base(options.name, find_weights(options.name, options.base), options.out)
    print(f"wrote {options.out}: {base.name}, licence {base.licence}, sha256 {base.sha256}")


def _read_crops(folder: Path) -> Any:  # noqa: ANN401 - imported late
    """A prepared folder of crops."""
    from mitoscope.training.data.read import read_samples
    from mitoscope.training.data.table import CropData

    data = read_samples(folder)
    if not isinstance(data, CropData):
        raise DataError(
            f"{folder} holds fields",
            got="fields of a detector",
            expected="crops",
            remedy="cut crops with mitoscope train prepare --figures",
        )
    return data


def add_foundation_commands(commands: Commands) -> None:
    """Add the commands to the parser of `mitoscope train`."""
    base = commands.add_parser("base", help="a foundation model's weights → one .safetensors file")
    base.add_argument("name", help="such as virchow, uni2-h or a timm name; see docs/foundation.md")
    base.add_argument("--base", type=Path, metavar="FILE|DIR", help="its weights (default: a package's, or the hub's)")
    base.add_argument("--out", type=Path, required=True, metavar="PATH")
    base.set_defaults(command=_base)

    embed = commands.add_parser("embed", help="crops → embeddings by a frozen network; resumable")
    embed.add_argument("--data", type=Path, required=True, metavar="DIR", help="written by prepare")
    embed.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder of embeddings")
    embed.add_argument("--network", default="tf_efficientnet_lite0", metavar="NAME",
                       help="a foundation model such as virchow, or a timm name (%(default)s)")  # fmt: skip
    embed.add_argument("--base", type=Path, metavar="FILE|DIR",
                       help="its weights; default: a registry package, else the model hub")  # fmt: skip
    embed.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                       help="change its input: crop_px, size_px, interpolation, mean, std")  # fmt: skip
    embed.add_argument("--orientations", type=whole_number, default=0, metavar="N",
                       help="embed each crop in N of the 8 orientations (%(default)s: once, as it comes)")  # fmt: skip
    embed.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    embed.add_argument("--precision", choices=("auto", "fp32", "fp16", "bf16"), default="auto",
                       help="auto: fp16 on a GPU, else fp32")  # fmt: skip
    embed.set_defaults(command=_embed)

    probe = commands.add_parser("probe", help="embeddings → classifiers of five folds; metrics, tables, a bundle")
    probe.add_argument("--data", type=Path, required=True, metavar="DIR", help="written by prepare")
    probe.add_argument("--embeddings", type=Path, required=True, metavar="DIR", help="written by embed")
    probe.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder for the results")
    probe.add_argument("--probe", nargs="+", default=["probe"], metavar="NAME",
                       help="probe: logistic regression, C chosen by validation; probe-uni: with UNI's C; knn "
                            "(%(default)s)")  # fmt: skip
    probe.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                       help="change a setting of those that have it: c=0.01, neighbours=10")  # fmt: skip
    probe.add_argument("--hold-out", action="append", default=[], metavar="DOMAIN|COLUMN=VALUE",
                       help="never fitted to; may be repeated")  # fmt: skip
    probe.add_argument("--seed", type=whole_number, default=0, help="of the folds (%(default)s)")
    probe.add_argument("--threshold-rule", choices=("max_balanced_accuracy", "otsu", "one_half", "cost_weighted"),
                       default="max_balanced_accuracy",
                       help="places the threshold, out of fold (%(default)s)")  # fmt: skip
    probe.add_argument("--publish", type=Path, metavar="DIR", help="also write a weights bundle")
    probe.add_argument("--base", type=Path, metavar="FILE|DIR", help="with --publish: the weights, as for embed")
    probe.add_argument("--embed-base", action="store_true",
                       help="with --publish: store the network in the bundle, if its licence allows it")  # fmt: skip
    probe.set_defaults(command=_probe)

    _add_scale(commands)


def _add_scale(commands: Commands) -> None:
    """Add the command of studies."""
    scale = commands.add_parser(
        "scale",
        help="studies of many runs: share of the data, settings, splits, cohorts; resumable",
        description="Runs every combination of what is named; writes a table, what follows from it, and pictures.",
    )
    scale.add_argument("--data", type=Path, required=True, metavar="DIR", help="written by prepare")
    scale.add_argument("--out", type=Path, required=True, metavar="DIR", help="the study's folder")
    scale.add_argument("--method", nargs="+", default=["probe"], metavar="NAME",
                       help="probes (probe, probe-uni, knn) and presets of fit (%(default)s)")  # fmt: skip
    scale.add_argument("--embeddings", type=Path, metavar="DIR", help="written by embed; for probes")
    scale.add_argument("--base", type=Path, metavar="FILE|DIR",
                       help="the weights of presets with a frozen base, such as virchow-lora-r8 "
                            "(default: a package's, or the hub's)")  # fmt: skip
    scale.add_argument("--fractions", type=float, nargs="+", default=[1.0], metavar="F",
                       help="shares of the training crops, such as .001 .01 .1 .25 .5 1 (%(default)s)")  # fmt: skip
    scale.add_argument("--seeds", type=whole_number, nargs="+", default=[42, 43, 44, 45, 46], metavar="N")
    scale.add_argument("--split", nargs="+", choices=("case", "random"), default=["case"],
                       help="random: crops of a slide on both sides, to measure what leaks (%(default)s)")  # fmt: skip
    scale.add_argument("--leave-one-out", metavar="COLUMN",
                       help="leave out each value of a column once, such as cohort")  # fmt: skip
    scale.add_argument("--grid", action="append", nargs="+", default=[], metavar="KEY VALUE",
                       help="values of a setting; may be repeated, for every combination")  # fmt: skip
    scale.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                       help="change a setting of the methods that have it, such as c=0.01 or epochs=5")  # fmt: skip
    scale.add_argument("--hold-out", action="append", default=[], metavar="DOMAIN|COLUMN=VALUE",
                       help="scored by every run, never learned from; may be repeated")  # fmt: skip
    add_launcher(scale)
    scale.set_defaults(command=_scale)
